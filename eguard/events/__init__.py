"""Telemetry: the event model, its columns and the parsers that produce them."""

from eguard.events.columns import BATCH_EVENTS, EventBatch, batched
from eguard.events.model import N_EVENT_CLASSES, UNCOUNTED, Event, EventClass

__all__ = ["BATCH_EVENTS", "N_EVENT_CLASSES", "UNCOUNTED", "Event", "EventBatch", "EventClass", "batched"]

"""The part of an engine that looks at every event of a process key: cheap layers, windows, learning.

It needs nothing but the key's own past, so it can run in this process or be divided by key among several
(`eguard.agent.shards`); everything after it sees few events and stays in one place. Either way the answers are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.profile import ProfileTable
from eguard.detection.layers import DetectionContent, LayerHits
from eguard.detection.window_batch import BatchWindows, KeyedEvents
from eguard.detection.windows import WindowBank
from eguard.events import EventBatch


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What the layers and the windows found in a batch."""

    hits: LayerHits
    windows: BatchWindows


class LayerStage(Protocol):
    """Layers 1 to 3 over whole batches. One thread uses it."""

    def run(self, batch: EventBatch, slots: NDArray[np.intp]) -> StageOutput:
        """Evaluate a batch whose keys have `slots`, and let the profiles learn the windows that close."""

    def forget(self, slots: NDArray[np.intp]) -> None:
        """Clear the windows of keys that were evicted."""

    def settle(self, before_unix: float) -> list[int]:
        """Learn what is older than `before_unix` in open windows; return the slots that learned."""

    def forget_times(self) -> None:
        """Forget when alarms were: the clock was set."""

    def swap(self, content: DetectionContent) -> None:
        """Use other content from the next batch on."""

    def close(self) -> None:
        """Give back what the stage holds."""


class LocalStage:
    """All keys in this process.

    Parameters
    ----------
    content : DetectionContent
        Indicators, rules and prefilter.
    windows : WindowBank
        Layer 3.
    profiles : ProfileTable
        The baseline that windows are compared with and learned into.
    """

    def __init__(self, content: DetectionContent, windows: WindowBank, profiles: ProfileTable) -> None:
        self._content = content
        self._windows = windows
        self._profiles = profiles

    def run(self, batch: EventBatch, slots: NDArray[np.intp]) -> StageOutput:
        """Evaluate a batch; see `LayerStage`."""
        hits = self._content.evaluate(batch)
        return StageOutput(hits, self._windows.observe(keyed_events(batch, slots, hits), self._profiles))

    def forget(self, slots: NDArray[np.intp]) -> None:
        """Clear evicted keys; see `LayerStage`."""
        self._windows.forget(slots)

    def settle(self, before_unix: float) -> list[int]:
        """Learn from open windows; see `LayerStage`."""
        return self._windows.settle(before_unix, self._profiles)

    def forget_times(self) -> None:
        """Forget when alarms were; see `LayerStage`."""
        self._windows.drift.forget_times()

    def swap(self, content: DetectionContent) -> None:
        """Use other content; see `LayerStage`."""
        self._content = content

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def keyed_events(batch: EventBatch, slots: NDArray[np.intp], hits: LayerHits) -> KeyedEvents:
    """Return a batch as layer 3 sees it."""
    return KeyedEvents(
        slots=slots,
        classes=batch.event_class,
        times=batch.time_unix,
        sizes=batch.sent_bytes + batch.received_bytes,
        is_tainted=hits.has_indicator | hits.has_rule,
        is_suspect=(hits.signature_count > 0) | hits.is_alert,
    )

"""The answers of all shards put together as one process would have given them, in order of delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eguard.agent.shards.messages import Found
from eguard.baseline.profile import ProfileTable
from eguard.detection.layers import LayerHits
from eguard.detection.window_batch import ClosedWindow
from eguard.events import EventBatch, EventClass

#: A shard's events by their positions in the batch, ascending, and what it found in them.
Part = tuple[NDArray[np.intp], Found]


def merge_hits(batch: EventBatch, parts: list[Part]) -> LayerHits:
    """Return what the cheap layers found in a batch, of which each event is in one part."""
    has_indicator = np.zeros(len(batch), dtype=np.bool_)
    signature_count = np.zeros(len(batch), dtype=np.int64)
    rules: dict[int, tuple[int, ...]] = {}
    enrichment: dict[int, tuple[int, ...]] = {}
    for rows, found in parts:
        has_indicator[rows] = np.frombuffer(found.has_indicator, np.bool_)
        signature_count[rows] = np.frombuffer(found.signature_count, np.int64)
        rules |= {int(rows[position]): matched for position, matched in found.rules.items()}
        enrichment |= {int(rows[position]): matched for position, matched in found.enrichment.items()}
    has_rule = np.zeros(len(batch), dtype=np.bool_)
    has_rule[list(rules)] = True
    return LayerHits(
        has_indicator=has_indicator,
        signature_count=signature_count,
        is_alert=batch.event_class == EventClass.ALERT,
        has_rule=has_rule,
        rules=dict(sorted(rules.items())),
        enrichment=dict(sorted(enrichment.items())),
    )


def merge_windows(n_events: int, parts: list[Part]) -> tuple[list[ClosedWindow], NDArray[np.intp], NDArray[np.int64]]:
    """Return the windows that closed, in order, and the columns `closed_index` and `serials` of `BatchWindows`."""
    closed: list[ClosedWindow] = []
    closed_index = np.full(n_events, -1, dtype=np.intp)
    serials = np.zeros(n_events, dtype=np.int64)
    for rows, found in parts:
        ranks = np.frombuffer(found.closed_index, np.int64)
        # Ranks among the windows of all parts, in the order of the parts for now.
        closed_index[rows] = np.where(ranks >= 0, ranks + len(closed), -1)
        serials[rows] = np.frombuffer(found.serials, np.int64)
        closed += [replace(window, index=int(rows[window.index])) for window in found.closed]
    order = np.argsort([window.index for window in closed], kind="stable")
    rank_of = np.empty(len(closed) + 1, dtype=np.intp)
    rank_of[order] = np.arange(len(closed))
    rank_of[-1] = -1
    return [closed[place] for place in order.tolist()], rank_of[closed_index], serials


def number_changes(closed: list[ClosedWindow], profiles: ProfileTable) -> None:
    """Give the profiles that learned from `closed` the sequence numbers that one process would have given them.

    It closes windows in rounds: the first of every key, then the second of those that closed two, and so on. In each
    round the keys that learn anew are marked one by one, and then all that learned together.
    """
    rounds: list[list[ClosedWindow]] = []
    closed_by_slot: dict[int, int] = {}
    for window in closed:
        turn = closed_by_slot.get(window.slot, 0)
        closed_by_slot[window.slot] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(window)
    for windows in rounds:
        windows.sort(key=lambda window: window.slot)
        for window in windows:
            if window.archived:
                profiles.mark_changed(np.array([window.slot], dtype=np.intp))
        learned = [window.slot for window in windows if not window.is_held]
        if learned:
            profiles.mark_changed(np.array(learned, dtype=np.intp))


def latest_before(
    closed: list[ClosedWindow], last: Mapping[int, ClosedWindow | None]
) -> dict[int, ClosedWindow | None]:
    """Return, for every slot that closed a window, the one before those."""
    return {window.slot: last.get(window.slot) for window in closed}

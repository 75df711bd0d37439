"""Layer 3: tumbling windows of each process key against what the key has learned; score first, then learn.

A window closes with the key's 128th counted event. It is tested against the key's baseline as it was before the
window's first event, and only then learned. A window that ended High, or in which an event alerted High, is held back.
Everything is decided by the order of a key's own events: how the stream was cut into batches changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.profile import ProfileTable
from eguard.detection.drift import DriftBank
from eguard.detection.engine_options import WindowOptions
from eguard.detection.packed_windows import PackedWindows
from eguard.detection.window_batch import BatchWindows, ClosedWindow, KeyedEvents, SortedBatch
from eguard.detection.window_events import Part, WindowEvents
from eguard.detection.window_test import WindowLevel, WindowScore, WindowTest
from eguard.estimators import seed_concentration
from eguard.events import N_EVENT_CLASSES

_INITIAL_SLOTS = 64


class WindowBank:
    """Windows of all process keys of one host, addressed by the slots of its profile table.

    Parameters
    ----------
    capacity : int
        Number of slots.
    options : WindowOptions
        Settings of layer 3.

    Attributes
    ----------
    test : WindowTest
        Thresholds.
    drift : DriftBank
        Page-Hinkley on the closed windows.
    serials : ndarray of int64, shape (capacity,)
        Windows closed in each slot, whichever keys had it: the number in the latest one's identity.

    Notes
    -----
    An event costs a few array operations shared by its batch; only closed windows are looked at one by one. An open
    window keeps its events (11 bytes each), so that what is held back was never learned.
    """

    def __init__(self, capacity: int, options: WindowOptions) -> None:
        self._capacity = capacity
        self._size = options.window_events
        self._relearns = options.relearns_after_drift
        self._session = options.session
        self.test = WindowTest(options)
        self.drift = DriftBank(min(_INITIAL_SLOTS, capacity), options)
        self._events = WindowEvents(min(_INITIAL_SLOTS, capacity), options.window_events)
        self._last = PackedWindows()
        self.serials = np.zeros(capacity, dtype=np.int64)
        self._allocate(min(_INITIAL_SLOTS, capacity))

    def _allocate(self, n_slots: int) -> None:
        """Make room for `n_slots`, keeping what is there."""
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "_counts": ((n_slots, N_EVENT_CLASSES), np.int32),
            "_filled": ((n_slots,), np.int64),
            "_learned": ((n_slots,), np.int64),
            "_is_tainted": ((n_slots,), np.bool_),
            "_ended_high": ((n_slots,), np.bool_),
        }
        for name, (shape, dtype) in shapes.items():
            grown: NDArray[Any] = np.zeros(shape, dtype)
            if hasattr(self, name):
                kept = getattr(self, name)
                grown[: len(kept)] = kept
            setattr(self, name, grown)
        self._events.grow(n_slots)
        self.drift.grow(n_slots)

    _counts: NDArray[np.int32]
    _filled: NDArray[np.int64]
    _learned: NDArray[np.int64]
    _is_tainted: NDArray[np.bool_]
    _ended_high: NDArray[np.bool_]

    @property
    def windows_closed(self) -> int:
        """Windows closed since the start."""
        return int(self.serials.sum())

    @property
    def open_windows(self) -> int:
        """Windows that have begun and not closed."""
        return int(np.count_nonzero(self._filled))

    @property
    def waiting_events(self) -> int:
        """Events in open windows that are not learned yet."""
        return int((self._filled - self._learned).sum())

    def window_id(self, slot: int, serial: int) -> str:
        """Return the identity of a key's window; it is the same however the stream was cut into batches."""
        return f"{self._session}{slot}.{serial}"

    def last(self, slot: int) -> ClosedWindow | None:
        """Return the most recently closed window of a key."""
        return self._last.get(slot)

    def open_counts(self, slot: int) -> tuple[int, ...]:
        """Return the events by class of the key's open window."""
        return tuple(self._counts[slot].tolist()) if slot < len(self._counts) else (0,) * N_EVENT_CLASSES

    def forget(self, slots: NDArray[np.intp]) -> None:
        """Clear slots whose keys were evicted."""
        within = slots[slots < len(self._filled)]
        self._open(within)
        self._ended_high[within] = False
        self.drift.reset(within)
        for slot in slots.tolist():
            self._last.discard(slot)
            self.test.forget(slot)

    def observe(self, events: KeyedEvents, profiles: ProfileTable) -> BatchWindows:
        """Count a batch into the windows; test those that close against `profiles`, and learn them there.

        Events without a slot (negative) are passed over.
        """
        tracked = np.flatnonzero(events.slots >= 0)
        if len(tracked) < len(events):
            inner = self.observe(events.take(tracked), profiles)
            closed_index = np.full(len(events), -1, dtype=np.intp)
            closed_index[tracked] = inner.closed_index
            serials = np.zeros(len(events), dtype=np.int64)
            serials[tracked] = inner.serials
            closed = [replace(window, index=int(tracked[window.index])) for window in inner.closed]
            return BatchWindows(events.slots, closed, closed_index, serials, inner.before, self._last)
        if not len(events):
            nothing = np.empty(0, dtype=np.int64)
            return BatchWindows(events.slots, [], nothing, nothing, {}, self._last)
        while int(events.slots.max()) >= len(self._filled):
            self._allocate(min(self._capacity, 2 * len(self._filled)))
        batch = SortedBatch(events, self._filled, self._size)
        serials = np.empty(len(events), dtype=np.int64)
        serials[batch.order] = self.serials[batch.slots] + batch.turn + 1
        ends = np.flatnonzero(batch.is_closing)
        before = self._last.at(batch.slots[ends].tolist())
        closed_at: list[tuple[int, ClosedWindow]] = []
        for turn in range(int(batch.turn.max()) + 1):
            self._count(batch, np.flatnonzero(batch.turn == turn))
            closing = ends[batch.turn[ends] == turn]
            if len(closing):
                closed_at += zip(closing.tolist(), self._close(batch, closing, profiles), strict=True)
        closed, closed_index = batch.in_delivery(closed_at)
        for window in closed:
            if window.is_held:
                profiles.hold_back(window.window_id, window.slot, window.unlearned_counts, window.closed_unix)
        return BatchWindows(events.slots, closed, closed_index, serials, before, self._last)

    def settle(self, before_unix: float, profiles: ProfileTable) -> list[int]:
        """Learn the events of open windows older than `before_unix`, and drop what was held back too long.

        A quiet key would otherwise wait days for its 128th event before anything of it is learned. Its window stays
        open and is tested as usual, against the baseline without its own events. Windows that will be held back are
        not touched.

        Returns
        -------
        list of int
            Slots that learned something.
        """
        profiles.held.expire(before_unix)
        parts: list[Part] = []
        for slot in np.flatnonzero((self._filled > self._learned) & ~self._is_tainted).tolist():
            start, stop = int(self._learned[slot]), int(self._filled[slot])
            stop = start + int(np.searchsorted(self._events.times(slot, start, stop), before_unix))
            if stop > start:
                parts.append((slot, start, stop))
                self._learned[slot] = stop
        self._learn(parts, profiles)
        return [slot for slot, _, _ in parts]

    def _count(self, batch: SortedBatch, rows: NDArray[np.intp]) -> None:
        """Add the events at `rows`, which all fall into windows that are now open."""
        slots = batch.slots[rows]
        is_tainted = batch.is_tainted[rows] | (batch.is_suspect[rows] & self._ended_high[slots])
        self._is_tainted[slots[is_tainted]] = True
        counted = rows[batch.is_counted[rows]]
        slots, within, classes = batch.slots[counted], batch.within[counted], batch.classes[counted]
        np.add.at(self._counts, (slots, classes), 1)
        self._events.put(slots, within, classes, batch.times[counted], batch.sizes[counted])
        np.maximum.at(self._filled, slots, within + 1)

    def _close(self, batch: SortedBatch, ends: NDArray[np.intp], profiles: ProfileTable) -> list[ClosedWindow]:
        """Test the full windows whose last events stand at `ends`, one a slot, then learn them and open new ones."""
        slots = batch.slots[ends]
        own = self._own(slots)
        # Not below zero: a profile that was begun anew since has forgotten what it learned of its open window.
        learned_before = np.maximum(profiles.counts[slots] - own, 0)
        is_seeded = profiles.prior_generation[slots] > 0
        concentration = np.where(is_seeded, seed_concentration(learned_before.sum(axis=1)), 0.0)
        scores = self.test.score(
            slots, self._counts[slots].astype(np.int64), learned_before, profiles.prior[slots], concentration
        )
        started, ended = self._events.started_unix[slots], batch.times[ends]
        rate_alarms = self.drift.update_rate(slots, ended - started)
        drift_alarms = np.zeros(len(slots), dtype=np.bool_)
        tested = np.flatnonzero([score.level != WindowLevel.UNTESTED for score in scores])
        kl_bits = np.array([score.kl_bits for score in scores])
        drift_alarms[tested] = self.drift.update_divergence(slots[tested], kl_bits[tested])
        closed: list[ClosedWindow] = []
        learned: list[Part] = []
        for row, (slot, score) in enumerate(zip(slots.tolist(), scores, strict=True)):
            alarms = (bool(drift_alarms[row]), bool(rate_alarms[row]))
            window = self._record(
                slot,
                score,
                index=int(batch.order[ends[row]]),
                times=(float(started[row]), float(ended[row])),
                alarms=alarms,
                learned_counts=tuple(own[row].tolist()),
            )
            if alarms[0] and self._relearns:
                archived = profiles.relearn(slot, window.closed_unix)
                window = replace(window, archived=tuple(archived.tolist()), learned_counts=(0,) * N_EVENT_CLASSES)
                self._learned[slot] = 0
            if not window.is_held:
                learned.append((slot, int(self._learned[slot]), self._size))
            self._last[slot] = window
            closed.append(window)
        self._learn(learned, profiles)
        self._open(slots)
        self._ended_high[slots] = [score.level == WindowLevel.HIGH for score in scores]
        return closed

    def _open(self, slots: NDArray[np.intp]) -> None:
        """Let `slots` have windows without events."""
        self._counts[slots] = 0
        self._filled[slots] = 0
        self._learned[slots] = 0
        self._is_tainted[slots] = False

    def _own(self, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return what the profiles have already learned of the open windows themselves, shape (k, 8)."""
        own = np.zeros((len(slots), N_EVENT_CLASSES), dtype=np.int64)
        for row in np.flatnonzero(self._learned[slots]).tolist():
            slot = int(slots[row])
            own[row] = self._events.counts(slot, int(self._learned[slot]), N_EVENT_CLASSES)
        return own

    def _learn(self, parts: list[Part], profiles: ProfileTable) -> None:
        """Let the profiles learn parts of several open windows."""
        if parts:
            profiles.observe(*self._events.take(parts))

    def _record(
        self,
        slot: int,
        score: WindowScore,
        *,
        index: int,
        times: tuple[float, float],
        alarms: tuple[bool, bool],
        learned_counts: tuple[int, ...],
    ) -> ClosedWindow:
        self.serials[slot] += 1
        for alarmed in alarms:
            if alarmed:
                self.drift.note_alarm(slot, times[1])
        return ClosedWindow(
            window_id=self.window_id(slot, int(self.serials[slot])),
            index=index,
            slot=slot,
            started_unix=times[0],
            closed_unix=times[1],
            counts=tuple(self._counts[slot].tolist()),
            learned_counts=learned_counts,
            score=score,
            is_held=bool(score.level == WindowLevel.HIGH or self._is_tainted[slot]),
            drift_alarm=alarms[0],
            rate_alarm=alarms[1],
            recent_alarms=self.drift.alarms(slot),
        )

"""Events held back from learning until somebody has judged them.

A window that alerted High may be the attack itself. Its events are learned only when the alert is adjudicated benign;
otherwise an intruder who is noisy for long enough becomes the baseline.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.slots import ProcessKey

#: A window that nobody judged is dropped after this long.
HOLD_SECONDS: Final = 86_400.0


class HeldWindow(NamedTuple):
    """The counts of one window, waiting for a verdict."""

    key: ProcessKey
    counts: NDArray[np.int64]
    held_at: float


class HeldWindows:
    """Windows under suspicion, by the identity of their alert.

    Parameters
    ----------
    capacity : int
        Most windows held; the oldest is dropped and counted when one more arrives.
    hold_seconds : float
        How long a window waits for its verdict.

    Examples
    --------
    >>> held = HeldWindows()
    >>> held.hold("alert-1", ("sh", "cron"), np.array([5, 0, 0, 2, 0, 0, 0, 0]), held_at=100.0)
    >>> held.release("alert-1").counts.tolist()
    [5, 0, 0, 2, 0, 0, 0, 0]
    >>> held.release("alert-1") is None  # a second verdict changes nothing
    True
    """

    def __init__(self, capacity: int = 1024, hold_seconds: float = HOLD_SECONDS) -> None:
        self.capacity = capacity
        self.hold_seconds = hold_seconds
        self.dropped_windows_total = 0
        self.dropped_events_total = 0
        self._windows: dict[str, HeldWindow] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def __contains__(self, window_id: str) -> bool:
        return window_id in self._windows

    def items(self) -> list[tuple[str, HeldWindow]]:
        """Return (window id, window) of all that is held, oldest first."""
        return list(self._windows.items())

    def find(self, window_id: str) -> HeldWindow | None:
        """Return a held window without releasing it."""
        return self._windows.get(window_id)

    def hold(self, window_id: str, key: ProcessKey, counts: NDArray[np.int64], held_at: float) -> None:
        """Keep the counts of a window out of the baseline. A `window_id` that is held already stays as it is."""
        if window_id in self._windows:
            return
        if len(self._windows) >= self.capacity:
            self._drop(next(iter(self._windows)))
        self._windows[window_id] = HeldWindow(key, counts.astype(np.int64), held_at)

    def release(self, window_id: str) -> HeldWindow | None:
        """Return the window for learning: its alert was adjudicated benign or false positive."""
        return self._windows.pop(window_id, None)

    def discard(self, window_id: str) -> None:
        """Drop the window: its alert was a true positive."""
        if window_id in self._windows:
            self._drop(window_id)

    def expire(self, now: float) -> int:
        """Drop what has waited longer than `hold_seconds` and return how many windows that were."""
        overdue = [name for name, window in self._windows.items() if now - window.held_at > self.hold_seconds]
        for name in overdue:
            self._drop(name)
        return len(overdue)

    def _drop(self, window_id: str) -> None:
        window = self._windows.pop(window_id)
        self.dropped_windows_total += 1
        self.dropped_events_total += int(window.counts.sum())

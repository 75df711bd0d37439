"""Answers of the database that are believed for a moment, so that not every request has to ask."""

from __future__ import annotations

import threading
from typing import Final, Generic, TypeVar

from eguard.clock import Clock

#: How long an answer is believed, in seconds: whatever is revoked ends everywhere within this time.
BELIEVED_SECONDS: Final = 5.0

_MAX_REMEMBERED: Final = 100_000
_Answer = TypeVar("_Answer")


class Believed(Generic[_Answer]):
    """Good answers by key; bad ones are never kept, so that whoever is let in again is let in at once.

    Parameters
    ----------
    clock : Clock
        Tells how old an answer is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[_Answer, float]] = {}

    def now(self) -> float:
        """Return the time that `keep` is to be given, taken before the database is asked."""
        return self._clock.monotonic()

    def get(self, key: str) -> _Answer | None:
        """Return an answer that is young enough."""
        found = self._answers.get(key)
        if found is None or self._clock.monotonic() >= found[1]:
            return None
        return found[0]

    def keep(self, key: str, answer: _Answer | None, asked_at: float) -> None:
        """Believe a good answer from now on, and no earlier one if there is none."""
        with self._lock:
            if answer is None:
                self._answers.pop(key, None)
                return
            if len(self._answers) >= _MAX_REMEMBERED:
                self._answers.clear()
            self._answers[key] = (answer, asked_at + BELIEVED_SECONDS)

    def forget(self) -> None:
        """Believe nothing any more."""
        with self._lock:
            self._answers.clear()

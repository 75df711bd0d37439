"""When to ask a server again that did not answer well."""

from __future__ import annotations

import random
from typing import Final

from eguard.errors import ServerRefusalError, ServerUnavailableError

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 300.0
JITTER_FRACTION: Final = 0.2
#: A server may ask for a longer pause than the longest; not for ever.
MAX_RETRY_AFTER_SECONDS: Final = 3600.0
#: What does not get better by being repeated.
FINAL_STATUSES: Final = frozenset({400, 401, 403, 404, 409, 413, 422})


class Backoff:
    """The pauses of one duty: 1, 2, 4 ... 300 s, each a fifth longer or shorter at random.

    Parameters
    ----------
    rng : Random
        Of the jitter.

    Examples
    --------
    >>> pauses = Backoff(random.Random(1))
    >>> [round(pauses.failed()) for _ in range(5)]
    [1, 2, 4, 8, 13]
    >>> pauses.succeeded()
    >>> pauses.failed() < 2.0, pauses.failed(retry_after_seconds=60.0) >= 60.0
    (True, True)
    """

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._failures = 0

    def failed(self, retry_after_seconds: float = 0.0) -> float:
        """Return how long to wait now, at least as long as the server asked for."""
        pause = LONGEST_SECONDS if self._failures > 10 else min(FIRST_SECONDS * 2.0**self._failures, LONGEST_SECONDS)
        self._failures += 1
        jittered = pause * (1.0 + JITTER_FRACTION * self._random.uniform(-1.0, 1.0))
        asked = min(retry_after_seconds, MAX_RETRY_AFTER_SECONDS)
        # Nobody comes before the time that was asked for, and not all at the same moment after it.
        return max(jittered, asked * (1.0 + JITTER_FRACTION * self._random.random()))

    def succeeded(self) -> None:
        """Begin with the shortest pause again."""
        self._failures = 0


def is_final(error: Exception) -> bool:
    """Return whether repeating the request before its next regular time is of no use.

    Examples
    --------
    >>> is_final(ServerRefusalError(403, "not_in_canary", "not now")), is_final(ServerUnavailableError("gone"))
    (True, False)
    """
    if isinstance(error, ServerRefusalError):
        return error.status in FINAL_STATUSES
    return not isinstance(error, ServerUnavailableError)


def retry_after(error: Exception) -> float:
    """Return the seconds that a server asked to be left alone for, 0 if it did not."""
    if isinstance(error, ServerUnavailableError | ServerRefusalError):
        return float(error.context.get("retry_after_seconds", 0.0))
    return 0.0

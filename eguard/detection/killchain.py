"""What rules have matched lately: per process, and per process tree the ATT&CK tactics of a kill chain."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

#: Look-back over the matches of one process, in seconds (feature 1).
TEMPORAL_SECONDS: Final = 60.0
#: Look-back over the tactics of one process tree, in seconds (feature 4).
KILL_CHAIN_SECONDS: Final = 3600.0
#: Both features saturate at three.
SATURATION: Final = 3


class MatchHistory:
    """Rule matches of one host, remembered as long as features 1 and 4 look back.

    Parameters
    ----------
    capacity : int
        Most processes and most trees remembered; the one that matched longest ago is forgotten.

    Examples
    --------
    >>> history = MatchHistory()
    >>> history.record(7, 3, 100.0, 1, ["execution"])
    >>> history.record(8, 3, 130.0, 2, ["persistence", "execution"])
    >>> history.temporal_count(8, 150.0), history.temporal_count(8, 190.0)
    (2, 0)
    >>> history.tactics(3, 150.0), history.tactics(3, 3710.0)
    (('execution', 'persistence'), ('execution', 'persistence'))
    >>> history.tactics(3, 3730.0)
    ()
    """

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._matches: OrderedDict[int | str, deque[float]] = OrderedDict()
        self._tactics: OrderedDict[int | str, dict[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._matches)

    def record(
        self, process: int | str, root: int | str, time_unix: float, n_matches: int, tactics: Iterable[str]
    ) -> None:
        """Remember `n_matches` matches at `time_unix` on an event of `process` in the tree of `root`."""
        matches = self._matches.setdefault(process, deque(maxlen=SATURATION))
        matches.extend([time_unix] * min(n_matches, SATURATION))
        self._matches.move_to_end(process)
        seen = self._tactics.setdefault(root, {})
        seen.update(dict.fromkeys(tactics, time_unix))
        self._tactics.move_to_end(root)
        if len(self._matches) > self._capacity:
            self._matches.popitem(last=False)
        if len(self._tactics) > self._capacity:
            self._tactics.popitem(last=False)

    def temporal_count(self, process: int | str, now_unix: float) -> int:
        """Return how many rules matched on `process` in the last 60 s, counted up to three."""
        matches = self._matches.get(process)
        return sum(now_unix - time_unix < TEMPORAL_SECONDS for time_unix in matches) if matches else 0

    def tactics(self, root: int | str, now_unix: float) -> tuple[str, ...]:
        """Return the distinct tactics matched in the tree of `root` within the last hour, sorted."""
        seen = self._tactics.get(root)
        if not seen:
            return ()
        return tuple(sorted(name for name, last in seen.items() if now_unix - last < KILL_CHAIN_SECONDS))

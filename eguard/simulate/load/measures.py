"""What a load test counts: latencies by operation, failures by kind, and what happened in which second."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Final

_SHORTEST_SECONDS: Final = 1e-5
_GROWTH: Final = 1.01
_LOG_GROWTH: Final = math.log(_GROWTH)


class Histogram:
    """Durations in cells that grow by one per cent: every quantile is right to that, however many there are.

    Examples
    --------
    >>> durations = Histogram()
    >>> for milliseconds in range(1, 101):
    ...     durations.add(milliseconds / 1000)
    >>> round(durations.quantile(0.5), 3), round(durations.quantile(0.99), 3), durations.largest
    (0.05, 0.099, 0.1)
    """

    __slots__ = ("_cells", "count", "largest", "total")

    def __init__(self) -> None:
        self._cells: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0
        self.largest = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.count += 1
        self.total += seconds
        self.largest = max(self.largest, seconds)
        self._cells[int(math.log(max(seconds, _SHORTEST_SECONDS) / _SHORTEST_SECONDS) / _LOG_GROWTH)] += 1

    def merge(self, other: Histogram) -> None:
        """Count what another counted."""
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        self._cells.update(other._cells)

    def quantile(self, share: float) -> float:
        """Return the duration that `share` of all do not exceed, at most one per cent too long; NaN without any."""
        if not self.count:
            return math.nan
        wanted, seen = math.ceil(share * self.count), 0
        for cell in sorted(self._cells):
            seen += self._cells[cell]
            if seen >= wanted:
                return min(_SHORTEST_SECONDS * _GROWTH ** (cell + 1), self.largest)
        return self.largest

    def cells(self) -> list[tuple[float, int]]:
        """Return the upper end of each cell that holds something, and how many it holds."""
        return [(_SHORTEST_SECONDS * _GROWTH ** (cell + 1), self._cells[cell]) for cell in sorted(self._cells)]

    def to_dict(self) -> dict[str, float | int | None]:
        """Return count and quantiles in milliseconds."""
        quantiles = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        found = {name: 1000.0 * self.quantile(share) for name, share in quantiles.items()}
        found |= {"mean": 1000.0 * self.total / self.count if self.count else math.nan, "max": 1000.0 * self.largest}
        return {"count": self.count} | {
            f"{name}_ms": round(value, 3) if math.isfinite(value) and self.count else None
            for name, value in found.items()
        }


@dataclass(slots=True)
class Second:
    """One second of a run, as it looked at its end."""

    at_seconds: float
    phase: str
    connected: int
    waiting: int
    uploads: int
    failures: int
    failures_so_far: int
    upload_p99_ms: float | None
    server_mib: float | None


@dataclass(slots=True)
class Profiles:
    """What became of the profiles that were sent, as the server answered."""

    sent: int = 0
    accepted: int = 0
    unchanged: int = 0
    stale: int = 0
    rejected: int = 0


class Measures:
    """The counters of one run; they belong to its event loop."""

    def __init__(self) -> None:
        self.phase = "start"
        self.operations: dict[tuple[str, str], Histogram] = {}
        self.failures: Counter[tuple[str, str, str]] = Counter()
        self.profiles = Profiles()
        self.connected = 0
        self.waiting = 0
        self.most_connected = 0
        self.most_waiting = 0
        self.uploads = 0
        self.uploads_withheld = 0
        self.uploads_refused = 0
        self.returns = 0
        self.seconds: list[Second] = []
        self._recent = Histogram()
        self._before = (0, 0)

    def note(self, operation: str, seconds: float) -> None:
        """Count an answer of success."""
        found = self.operations.get((self.phase, operation))
        if found is None:
            found = self.operations[self.phase, operation] = Histogram()
        found.add(seconds)
        if operation == "upload":
            self.uploads += 1
            self._recent.add(seconds)

    def fail(self, operation: str, kind: str) -> None:
        """Count a failure."""
        self.failures[self.phase, operation, kind] += 1

    @property
    def failed(self) -> int:
        """How many requests and connections failed."""
        return self.failures.total()

    def connection(self, change: int) -> None:
        """Count a connection that was made or ended."""
        self.connected += change
        self.most_connected = max(self.most_connected, self.connected)

    def wait(self, change: int) -> None:
        """Count an agent that began to wait for its policy, or ended it."""
        self.waiting += change
        self.most_waiting = max(self.most_waiting, self.waiting)

    def overall(self, operation: str) -> Histogram:
        """Return an operation's durations in all phases."""
        every = Histogram()
        for (_, name), found in self.operations.items():
            if name == operation:
                every.merge(found)
        return every

    def tick(self, at_seconds: float, server_mib: float | None) -> Second:
        """Close a second and return how it was."""
        uploads, failures = self._before
        recent, self._recent = self._recent, Histogram()
        second = Second(
            round(at_seconds, 3),
            self.phase,
            self.connected,
            self.waiting,
            self.uploads - uploads,
            self.failed - failures,
            self.failed,
            round(1000.0 * recent.quantile(0.99), 3) if recent.count else None,
            server_mib,
        )
        self._before = (self.uploads, self.failed)
        self.seconds.append(second)
        return second

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        phases: dict[str, dict[str, Any]] = {}
        for (phase, operation), found in sorted(self.operations.items()):
            phases.setdefault(phase, {})[operation] = found.to_dict()
        names = sorted({operation for _, operation in self.operations})
        return {
            "operations": {name: self.overall(name).to_dict() for name in names},
            "operations_by_phase": phases,
            "failures": [
                {"phase": phase, "operation": operation, "kind": kind, "count": count}
                for (phase, operation, kind), count in sorted(self.failures.items())
            ],
            "failed": self.failed,
            "profiles": asdict(self.profiles),
            "most_connected": self.most_connected,
            "most_waiting": self.most_waiting,
            "uploads": self.uploads,
            "uploads_withheld": self.uploads_withheld,
            "uploads_refused": self.uploads_refused,
            "returns": self.returns,
            "seconds_table": [asdict(second) for second in self.seconds],
        }

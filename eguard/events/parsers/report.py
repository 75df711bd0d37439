"""What became of every row of a file: the counts that a parser keeps while it streams."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class ParseReport:
    """Counts of one file, or of several files parsed one after the other.

    Every row read ends in exactly one place: ``rows_read == accepted + sum(skipped) + sum(rejected)``. A row is
    *skipped* when it is sound but carries no event that eGuard takes (another log channel, a repeated header), and
    *rejected* when it is bad (malformed, no time, a number out of range). *Repaired* rows are accepted ones that had
    to be mended. `damage` says where a file broke off.

    Examples
    --------
    >>> report = ParseReport()
    >>> report.accept(2)
    >>> report.reject("bad_time")
    >>> report.rows_read, report.to_dict()["rejected"]
    (3, {'bad_time': 1})
    """

    accepted: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    damage: str = ""

    @property
    def rows_read(self) -> int:
        """Rows seen so far, whatever became of them."""
        return self.accepted + self.skipped.total() + self.rejected.total()

    def accept(self, rows: int = 1) -> None:
        """Count rows that became events."""
        self.accepted += rows

    def skip(self, reason: str, rows: int = 1) -> None:
        """Count sound rows that are not taken."""
        self.skipped[reason] += rows

    def reject(self, reason: str, rows: int = 1) -> None:
        """Count bad rows."""
        self.rejected[reason] += rows

    def repair(self, reason: str) -> None:
        """Count a mended row, besides accepting it."""
        self.repaired[reason] += 1

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON-ready values with sorted reasons."""
        return {
            "rows_read": self.rows_read,
            "accepted": self.accepted,
            "skipped": dict(sorted(self.skipped.items())),
            "rejected": dict(sorted(self.rejected.items())),
            "repaired": dict(sorted(self.repaired.items())),
            "damage": self.damage,
        }

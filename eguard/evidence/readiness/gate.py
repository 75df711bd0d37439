"""Which boxes are ticked: those whose every drill has a record that holds, is young, of this version, and passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from eguard import __version__
from eguard.errors import EvidenceError
from eguard.evidence.readiness.boxes import BOXES, Box
from eguard.evidence.readiness.records import RecordFolder

DAY_SECONDS: Final = 86_400.0
#: Field of a record's target that tells one deployment from another.
AUTHORITY: Final = "authority"
#: How far ahead the clock of another machine may be.
_AHEAD_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class DrillStanding:
    """How a box's drill stands: whether its record counts, why not, and what the record says."""

    drill: str
    counts: bool
    why: str
    record: dict[str, Any] | None = None

    @property
    def command(self) -> str:
        """What runs it."""
        return f"eguard readiness drill {self.drill}"

    def to_dict(self) -> dict[str, Any]:
        """Return it with the record's outline; the whole record is in its file."""
        record = self.record or {}
        return {
            "drill": self.drill,
            "counts": self.counts,
            "why": self.why,
            "command": self.command,
            "started_at": record.get("started_at"),
            "commands": [each["command"] for each in record.get("commands", ())],
            "checks": record.get("checks", []),
            "target": record.get("target", {}),
        }


@dataclass(frozen=True, slots=True)
class BoxStanding:
    """A box, and its drills' records."""

    box: Box
    drills: tuple[DrillStanding, ...]

    @property
    def is_ticked(self) -> bool:
        """Whether every drill's record counts."""
        return bool(self.drills) and all(each.counts for each in self.drills)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "title": self.box.title,
            "ticked": self.is_ticked,
            "valid_days": self.box.valid_days,
            "drills": [each.to_dict() for each in self.drills],
        }


@dataclass(frozen=True, slots=True)
class Readiness:
    """The gate: every box, in the manual's order."""

    judged_at: str
    boxes: tuple[BoxStanding, ...]

    @property
    def is_ready(self) -> bool:
        """Whether all boxes are ticked."""
        return bool(self.boxes) and all(each.is_ticked for each in self.boxes)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "ready": self.is_ready,
            "eguard": __version__,
            "judged_at": self.judged_at,
            "boxes": [each.to_dict() for each in self.boxes],
        }


def judge_readiness(
    records: RecordFolder, now: float, boxes: Sequence[Box] = BOXES, *, authority: str = ""
) -> Readiness:
    """Read the records and judge every box.

    Parameters
    ----------
    records : RecordFolder
        What drills left.
    now : float
        Seconds since the epoch.
    boxes : sequence of Box
        The manual's.
    authority : str
        Fingerprint of the authority of the deployment that is asked about; records of another one do not count. Empty
        where none is set up: then that cannot be told.
    """
    asked = _Asked(now, authority)
    standings = tuple(
        BoxStanding(box, tuple(_judge(records, drill, box.valid_days, asked) for drill in box.drills)) for box in boxes
    )
    return Readiness(datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"), standings)


class _Asked(NamedTuple):
    """When, and of which deployment."""

    now: float
    authority: str


def _judge(records: RecordFolder, drill: str, valid_days: float, asked: _Asked) -> DrillStanding:
    try:
        record = records.read(drill)
    except EvidenceError as error:
        return DrillStanding(drill, counts=False, why=f"the record does not count: {error}")
    if record is None:
        return DrillStanding(drill, counts=False, why="it was never run here")
    why_not = _why_not(record, valid_days, asked)
    age_days = max(asked.now - record["started_at_unix"], 0.0) / DAY_SECONDS
    passed = f"passed on {record['started_at']}, {age_days:.1f} of {valid_days:g} days ago"
    return DrillStanding(drill, counts=not why_not, why=why_not or passed, record=record)


def _why_not(record: dict[str, Any], valid_days: float, asked: _Asked) -> str:
    """Return why a record that holds does not count; nothing if it does."""
    started, now = record["started_at_unix"], asked.now
    theirs = record["target"].get(AUTHORITY, "")
    if asked.authority and theirs and theirs != asked.authority:
        return f"the drill was of another deployment, whose authority is {theirs[:16]} and not {asked.authority[:16]}"
    if started > now + _AHEAD_SECONDS:
        return f"the record is of the future: {record['started_at']}"
    if now - started > valid_days * DAY_SECONDS:
        return f"the record is {(now - started) / DAY_SECONDS:.1f} days old and counts for {valid_days:g}"
    if record["eguard"] != __version__:
        return f"the drill was run with eGuard {record['eguard']}, and this is {__version__}"
    if not record["passed"]:
        missed = [f"{check['name']}: {check['observed']}" for check in record["checks"] if not check["passed"]]
        return f"the drill of {record['started_at']} failed: {record['error'] or '; '.join(missed)}"
    return ""

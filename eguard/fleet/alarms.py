"""Alarms of drift: raised once, open until an operator says what the shift was."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sa

from eguard.fleet.charts import Finding
from eguard.fleet.tables import fleet_alarm

#: Name of the series of the whole fleet; a process key has a colon.
FLEET: Final = "fleet"
#: Which detectors say that the fleet drifts; the level rule is the manual's line beside them.
DRIFT_KINDS: Final = ("cusum", "rank_adwin", "adwin")
Resolution = Literal["organic", "adversarial"]

_alarm = fleet_alarm.c


class Alarm(NamedTuple):
    """A row of `fleet_alarm` that is not resolved yet."""

    alarm_id: str
    raised_at: float
    generation: int
    kind: str
    series: str
    compared_with: str
    value: float
    threshold: float
    detail: dict[str, Any]

    @property
    def name(self) -> str:
        """Series, comparison and detector in words."""
        return f"{self.series} against {self.compared_with}: {self.kind}"


class Raised(NamedTuple):
    """What is about to become an alarm, if none of its kind, series and comparison is open."""

    series: str
    compared_with: str
    finding: Finding
    detail: dict[str, Any]


def raise_alarms(connection: sa.Connection, found: Iterable[Raised], generation: int, now: float) -> list[Alarm]:
    """Write an alarm for everything found that has none open yet, and return the new ones."""
    taken = {(alarm.kind, alarm.series, alarm.compared_with) for alarm in open_alarms(connection)}
    fresh: list[Alarm] = []
    for series, compared_with, finding, detail in found:
        identity = (finding.kind, series, compared_with)
        if identity in taken:
            continue
        taken.add(identity)
        fresh.append(
            Alarm(
                alarm_id=secrets.token_hex(16),
                raised_at=now,
                generation=generation,
                kind=finding.kind,
                series=series,
                compared_with=compared_with,
                value=finding.value,
                threshold=finding.threshold,
                detail=detail,
            )
        )
    if fresh:
        connection.execute(sa.insert(fleet_alarm), [alarm._asdict() for alarm in fresh])
    return fresh


def open_alarms(connection: sa.Connection) -> list[Alarm]:
    """Return the alarms that nobody resolved, oldest first."""
    columns = [_alarm[name] for name in Alarm._fields]
    query = sa.select(*columns).where(_alarm.resolved_at.is_(None))
    query = query.order_by(_alarm.generation, _alarm.series, _alarm.compared_with, _alarm.kind)
    return [Alarm(*row) for row in connection.execute(query)]


def has_open_alarm(connection: sa.Connection, series: str, compared_with: str) -> bool:
    """Tell whether an alarm of a series is open."""
    conditions = (_alarm.resolved_at.is_(None), _alarm.series == series, _alarm.compared_with == compared_with)
    return connection.execute(sa.select(sa.func.count()).where(*conditions)).scalar_one() > 0


def list_alarms(connection: sa.Connection, limit: int) -> list[dict[str, Any]]:
    """Return the latest alarms, newest first, open and resolved."""
    query = sa.select(fleet_alarm).order_by(
        _alarm.raised_at.desc(), _alarm.generation.desc(), _alarm.series, _alarm.compared_with, _alarm.kind
    )
    return [dict(row) for row in connection.execute(query.limit(limit)).mappings()]


def resolve_alarms(
    connection: sa.Connection, alarms: Sequence[Alarm], resolution: Resolution, resolved_by: str, now: float
) -> list[str]:
    """Close alarms and return their ids."""
    ids = [alarm.alarm_id for alarm in alarms]
    if ids:
        connection.execute(
            sa.update(fleet_alarm)
            .where(_alarm.alarm_id.in_(ids), _alarm.resolved_at.is_(None))
            .values(resolved_at=now, resolved_by=resolved_by[:128], resolution=resolution)
        )
    return ids

"""What drift of the fleet's baseline sets off: an alarm holds every rollout, and stays until somebody explains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from eguard.errors import ServerRefusalError
from eguard.fleet.alarms import DRIFT_KINDS, FLEET, Alarm, Resolution, open_alarms, resolve_alarms
from eguard.fleet.drift import calm_charts, evaluate_drift
from eguard.server.principal import SYSTEM, Principal
from eguard.server.services.audit import record
from eguard.server.services.kill_switch import freeze_rollouts
from eguard.server.services.notifications import notify
from eguard.server.services.policy_writes import Authorship

#: Alarms named in a message; the count is complete.
_NAMED: Final = 20


def watch_drift(connection: sa.Connection, now: float) -> list[Alarm]:
    """Evaluate the generations that are new, in the transaction that publishes, and act on what is found.

    New alarms freeze all rollouts, leave one audit record and one message to operators: with the generation that they
    are about, all of it is committed, or nothing.
    """
    alarms = evaluate_drift(connection, now)
    if not alarms:
        return alarms
    title = _title(alarms)
    frozen = freeze_rollouts(connection, Authorship(SYSTEM, title, now))
    detail: dict[str, Any] = {
        "generation": alarms[-1].generation,
        "alarms": len(alarms),
        "named": [describe_alarm(alarm) for alarm in _fleet_first(alarms)[:_NAMED]],
        "rollouts_frozen": frozen,
    }
    notify(connection, kind="fleet_drift", severity="critical", title=title, detail=detail, now=now)
    record(
        connection,
        SYSTEM,
        action="fleet.drift_alarm",
        object_type="fleet",
        object_id="fleet",
        detail=detail,
        now=now,
    )
    return alarms


def settle_as_organic(connection: sa.Connection, principal: Principal, generation: int, now: float) -> list[str]:
    """Resolve the alarms that were raised up to a generation which is now what is compared with."""
    alarms = [alarm for alarm in open_alarms(connection) if alarm.generation <= generation]
    return _settle(connection, alarms, "organic", principal, now)


def settle_as_adversarial(
    connection: sa.Connection, principal: Principal, now: float, *, after: int = 0
) -> list[str]:  # fmt: skip
    """Resolve the alarms that were raised after a generation, and have the detectors forget what came since."""
    alarms = [alarm for alarm in open_alarms(connection) if alarm.generation > after]
    if alarms:
        calm_charts(connection)
    return _settle(connection, alarms, "adversarial", principal, now)


def require_no_open_alarm(connection: sa.Connection) -> None:
    """Refuse what must wait until every alarm is explained.

    Raises
    ------
    ServerRefusalError
        409 ``drift_alarm_open``.
    """
    alarms = open_alarms(connection)
    if alarms:
        raise ServerRefusalError(
            409,
            "drift_alarm_open",
            f"{len(alarms)} alarm(s) of drift open: look with `eguard fleet explain`; then approve the shift "
            "(`eguard fleet approve`), or undo it (`eguard fleet rollback`, `eguard fleet quarantine --resolve`)",
            errors=[("alarm", alarm.name) for alarm in _fleet_first(alarms)[:_NAMED]],
        )


def describe_alarm(alarm: Alarm) -> dict[str, Any]:
    """Return an open alarm as the API shows it."""
    return {
        "alarm_id": alarm.alarm_id,
        "raised_at_unix": alarm.raised_at,
        "generation": alarm.generation,
        "kind": alarm.kind,
        "series": alarm.series,
        "compared_with": alarm.compared_with,
        "value": alarm.value,
        "threshold": alarm.threshold,
        "detail": alarm.detail,
    }


def describe_drift_state(alarms: Sequence[Alarm]) -> dict[str, Any]:
    """Return whether the fleet drifts, and by which detectors: any of the three says so."""
    by = sorted({alarm.kind for alarm in alarms if alarm.series == FLEET and alarm.kind in DRIFT_KINDS})
    return {"fleet_drift": bool(by), "by": by}


def _settle(
    connection: sa.Connection, alarms: Sequence[Alarm], resolution: Resolution, principal: Principal, now: float
) -> list[str]:
    return resolve_alarms(connection, alarms, resolution, principal.name, now)


def _fleet_first(alarms: Sequence[Alarm]) -> list[Alarm]:
    return sorted(alarms, key=lambda alarm: (alarm.series != FLEET, alarm.series, alarm.compared_with, alarm.kind))


def _title(alarms: Sequence[Alarm]) -> str:
    first = _fleet_first(alarms)[0]
    more = f" and {len(alarms) - 1} more" if len(alarms) > 1 else ""
    return f"drift of the fleet's baseline in generation {first.generation}: {first.name}{more}"

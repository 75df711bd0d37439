"""How a candidate stands: where it is, what agents report of it, and what keeps it from the next stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from eguard.fleet.alarms import open_alarms
from eguard.fleet.tables import endpoint_agent, rollout
from eguard.server.services.candidate_checks import (
    CandidateBudget,
    CandidateMeasures,
    judge_candidate,
    looks_due,
)
from eguard.server.services.candidate_measures import Staged, candidate_cohort, measure_candidate
from eguard.server.services.candidates import STAGED, read_candidate
from eguard.server.services.rollout_checks import CheckState, StageCheck, next_stage

#: Place on the way of a candidate that no agent has.
NOWHERE: Final = -1.0
SHADOW: Final = 0.0
STABLE: Final = 100.0


@dataclass(frozen=True, slots=True)
class CandidateLook:
    """A candidate as it was found in one transaction.

    Parameters
    ----------
    row : sqlalchemy.RowMapping
        Of the registry.
    measures : CandidateMeasures, optional
        What agents report; None while none has it beside the stable release.
    checks : tuple of StageCheck
        What follows from it.
    holds : tuple of (code, sentence)
        What holds every rollout: a freeze, open alarms of drift.
    running : int
        Agents that run it, wherever it is.
    """

    row: sa.RowMapping
    measures: CandidateMeasures | None
    checks: tuple[StageCheck, ...]
    holds: tuple[tuple[str, str], ...]
    running: int
    next_cohort: int | None

    @property
    def place(self) -> float:
        """Where it is: NOWHERE, SHADOW, the share that runs it in percent, or STABLE."""
        return place_of(self.row)

    def to_dict(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        measures = self.measures
        described: dict[str, Any] = {
            "running": self.running,
            "next": stage_name(next_place(self.place)),
            "next_cohort_size": self.next_cohort,
            "checks": [check.to_dict() for check in self.checks],
            "holds": [{"code": code, "detail": detail} for code, detail in self.holds],
        }
        if measures is None:
            return described
        shadow, rates = measures.shadow, measures.rates
        refused = (*measures.refused, *measures.refused_in_shadow)
        return described | {
            "cohort_size": measures.cohort,
            "running_in_cohort": measures.running,
            "silent": measures.silent,
            "refused": [{"agent_id": agent_id, "code": code} for agent_id, code in refused],
            "alerts": {
                "since": rates.since.alerts,
                "since_agent_hours": rates.since.agent_hours,
                "before": rates.before.alerts,
                "before_agent_hours": rates.before.agent_hours,
                "dispersion": rates.dispersion,
                "is_fleet_louder": rates.is_fleet_louder,
            },
            "shadow": {
                "agents": shadow.agents,
                "scored": shadow.scored,
                "active_flagged": shadow.active_flagged,
                "shadow_flagged": shadow.shadow_flagged,
                "only_shadow": shadow.only_shadow,
                "only_active": shadow.only_active,
                "mean_score_difference": shadow.difference_sum / shadow.scored if shadow.scored else None,
            },
        }


def look_at_candidate(
    connection: sa.Connection, candidate_id: str, now: float, budget: CandidateBudget
) -> CandidateLook:
    """Return how a candidate stands.

    Raises
    ------
    ServerRefusalError
        404 ``unknown_candidate``.
    """
    row = read_candidate(connection, candidate_id)
    following = next_place(place_of(row))
    measures = measures_of(connection, row, now)
    look = max(int(row["looks"]), min(1, looks_due(now - row["stage_since"])))
    return CandidateLook(
        row=row,
        measures=measures,
        checks=() if measures is None else judge_candidate(measures, budget, look),
        holds=tuple(_holds(connection)),
        running=_running(connection, str(row["digest"])),
        next_cohort=None if following is None else len(candidate_cohort(connection, following)),
    )


def measures_of(connection: sa.Connection, row: sa.RowMapping, now: float) -> CandidateMeasures | None:
    """Return what agents report of a candidate that they have beside the stable release, else None."""
    if row["stage"] not in STAGED:
        return None
    staged = Staged(row["digest"], row["model_version"], float(row["percent"]), row["stage_since"], now)
    return measure_candidate(connection, staged)


def place_of(row: sa.RowMapping) -> float:
    """Return where a candidate is on its way."""
    if row["stage"] == "stable":
        return STABLE
    return float(row["percent"]) if row["stage"] in STAGED else NOWHERE


def next_place(place: float) -> float | None:
    """Return what comes after a place, None at the end.

    Examples
    --------
    >>> [next_place(place) for place in (NOWHERE, SHADOW, 1.0, 20.0, STABLE)]
    [0.0, 1.0, 5.0, 100.0, None]
    """
    return SHADOW if place < SHADOW else next_stage(place)


def stage_name(place: float | None) -> str | None:
    """Return a place in words.

    Examples
    --------
    >>> [stage_name(place) for place in (NOWHERE, SHADOW, 2.5, STABLE, None)]
    ['registered', 'shadow', '2.5 %', 'stable', None]
    """
    if place is None:
        return None
    names = {NOWHERE: "registered", SHADOW: "shadow", STABLE: "stable"}
    return names.get(place, f"{place:g} %")


def missed(checks: tuple[StageCheck, ...]) -> list[tuple[str, str]]:
    """Return the checks that do not hold, ``unknown`` ones among them, as code and sentence."""
    return [
        (check.name, f"{check.name} is {check.state}: {check.detail}")
        for check in checks
        if check.state is not CheckState.OK
    ]


def _holds(connection: sa.Connection) -> list[tuple[str, str]]:
    column = rollout.c
    frozen = connection.execute(
        sa.select(column.rollout_id, column.frozen_reason)
        .where(column.frozen_at.is_not(None))
        .order_by(column.rollout_id)
    ).all()
    holds = [("frozen", f"rollout {row.rollout_id} is frozen: {row.frozen_reason}") for row in frozen]
    alarms = open_alarms(connection)
    if alarms:
        holds.append(("drift_alarm", f"{len(alarms)} alarms of drift are not resolved"))
    return holds


def _running(connection: sa.Connection, digest: str) -> int:
    agent = endpoint_agent.c
    query = sa.select(sa.func.count()).where(agent.bundle_digest == digest, agent.status == "active")
    return int(connection.execute(query.select_from(endpoint_agent)).scalar() or 0)

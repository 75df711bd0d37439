"""The runbook of a drift alarm: how the fleet stands, what moved it, and agents out of the vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.alarms import list_alarms, open_alarms
from eguard.fleet.ballots import Ballots, read_ballots
from eguard.fleet.database import Database
from eguard.fleet.drift import describe_drift, evaluated_generation
from eguard.fleet.explanation import MOVED_FACTOR, Surroundings, weigh_evidence
from eguard.fleet.generations import current_generation, read_health, read_published, reference_generation
from eguard.fleet.health import PublishedKey, key_divergences
from eguard.fleet.influence import Influence, agreed, total_variation, trace_shift
from eguard.fleet.kernel import AggregationRules
from eguard.fleet.tables import endpoint_agent, fleet_generation
from eguard.server.principal import Principal
from eguard.server.services.audit import record
from eguard.server.services.drift import describe_alarm, describe_drift_state, settle_as_adversarial
from eguard.server.services.endpoints import locked_agent
from eguard.settings import ServerSettings

HEALTH_ROWS: Final = 400
_ALARM_ROWS: Final = 20
#: Keys at once: the votes of all of them are held.
MAX_KEYS: Final = 50
SHOWN_AGENTS: Final = 50


class Runbook:
    """What operators do when the fleet's baseline drifts.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        For records.
    settings : ServerSettings
        The rules of the cohort: an explanation counts the votes that the next aggregation would.
    """

    def __init__(self, database: Database, clock: Clock, settings: ServerSettings) -> None:
        self._database = database
        self._clock = clock
        self._rules = AggregationRules(
            min_agents=settings.aggregation_min_agents,
            max_colluders=settings.aggregation_max_colluders,
            min_agent_age_seconds=settings.aggregation_min_agent_age_seconds,
            max_token_share=settings.aggregation_max_token_share,
        )

    def health(self, limit: int = HEALTH_ROWS) -> dict[str, Any]:
        """Return how the fleet's baseline moved, newest generation first, where the detectors stand, and the alarms."""
        with self._database.read() as connection:
            alarms = open_alarms(connection)
            return {
                "generation": current_generation(connection),
                "reference_generation": reference_generation(connection),
                "comparisons": read_health(connection, min(limit, HEALTH_ROWS)),
                "drift": {
                    **describe_drift_state(alarms),
                    "evaluated_generation": evaluated_generation(connection),
                    "charts": describe_drift(connection),
                    "open_alarms": [describe_alarm(alarm) for alarm in alarms],
                    "latest_alarms": list_alarms(connection, _ALARM_ROWS),
                },
            }

    def explain(self, key: str | None, limit: int, generation: int | None = None) -> dict[str, Any]:
        """Return what moved a key, or the fleet, away from the reference: keys, agents and evidence.

        The keys are those of a published generation that moved furthest; who moved them is read from the votes as they
        stand now.

        Parameters
        ----------
        key : str, optional
            One process key; the fleet's most moved ones if not given.
        limit : int
            Keys at most.
        generation : int, optional
            Where to look for moved keys; the current generation by default.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_key``: the key is not in both generations; 409 ``nothing_to_compare``: nothing was published
            since the reference was pinned.
        FleetStoreError
            A generation is unknown, or its rows are no longer kept.
        """
        now = self._clock.now()
        with self._database.read() as connection:
            chosen = current_generation(connection) if generation is None else generation
            pinned = reference_generation(connection)
            if pinned in {0, chosen}:
                raise ServerRefusalError(
                    409, "nothing_to_compare", f"generation {chosen} is the reference itself, or there is none"
                )
            current, reference = read_published(connection, chosen), read_published(connection, pinned)
            moved = _moved(current, reference)
            if key is not None and key not in {each["process_key"] for each in moved}:
                raise ServerRefusalError(404, "unknown_key", f"generations {pinned} and {chosen} do not share {key}")
            shown = [each for each in moved if key in {None, each["process_key"]}][:limit]
            names = [each["process_key"] for each in shown]
            pinned_at = connection.execute(
                sa.select(fleet_generation.c.computed_at).where(fleet_generation.c.generation == pinned)
            ).scalar_one()
            ballots = read_ballots(connection, reference, names, self._rules, now=now, since=pinned_at)
        around = Surroundings(
            moved_keys=sum(each["js_nats"] > MOVED_FACTOR * each["js_bias_nats"] for each in moved),
            common_keys=len(moved),
            new_key_share=len(current.keys() - reference.keys()) / len(current) if current else 0.0,
            reference_at=pinned_at,
        )
        return {
            "generation": chosen,
            "reference_generation": pinned,
            "keys": shown,
            "moved_keys": around.moved_keys,
            "common_keys": around.common_keys,
            **_explained(ballots, around),
        }

    def quarantine(
        self, principal: Principal, agent_ids: Sequence[str], reason: str, *, resolve_alarms: bool = False
    ) -> dict[str, Any]:
        """Take the votes of several agents, all or none, and on demand resolve all alarms as adversarial.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_agent``; 409 ``not_active``: one of them is quarantined or decommissioned; 422 ``no_agent``.
        """
        now = self._clock.now()
        names = sorted(set(agent_ids))
        if not names:
            raise ServerRefusalError(422, "no_agent", "no agent is named", errors=[("agent_ids", "is empty")])

        def quarantine(connection: sa.Connection) -> dict[str, Any]:
            for agent_id in names:
                agent = locked_agent(connection, agent_id)
                if agent["status"] != "active":
                    raise ServerRefusalError(409, "not_active", f"agent {agent_id} is {agent['status']}, not active")
            connection.execute(
                sa.update(endpoint_agent)
                .where(endpoint_agent.c.agent_id.in_(names))
                .values(status="quarantined", quarantined_at=now)
            )
            resolved = settle_as_adversarial(connection, principal, now) if resolve_alarms else []
            for agent_id in names:
                record(
                    connection,
                    principal,
                    action="endpoint.quarantine",
                    object_type="agent",
                    object_id=agent_id,
                    detail={"reason": reason},
                    now=now,
                )
            if resolved:
                record(
                    connection,
                    principal,
                    action="fleet.resolve_alarms",
                    object_type="fleet",
                    object_id="fleet",
                    detail={
                        "resolution": "adversarial",
                        "resolved_alarms": resolved,
                        "agents": names,
                        "reason": reason,
                    },
                    now=now,
                )
            return {"quarantined": names, "resolved_alarms": resolved}

        return self._database.retrying(quarantine)


def _moved(current: dict[str, PublishedKey], reference: dict[str, PublishedKey]) -> list[dict[str, Any]]:
    """Return the common keys, those first that weigh most in the fleet's divergence."""
    keys, divergence, bias = key_divergences(current, reference)
    rows = [
        {
            "process_key": key,
            "agent_count": current[key].agent_count,
            "js_nats": float(divergence[at]),
            "js_bias_nats": float(bias[at]),
            "js_excess_nats": float(divergence[at] - bias[at]),
            "total_variation": float(total_variation(current[key].distribution, reference[key].distribution)),
        }
        for at, key in enumerate(keys)
    ]
    return sorted(rows, key=lambda row: (-row["js_excess_nats"] * row["agent_count"], row["process_key"]))


def _explained(ballots: Ballots, around: Surroundings) -> dict[str, Any]:
    if not ballots.keys:
        return {"votes": [], "influence": None, "agents": [], "group": [], "evidence": []}
    influence = trace_shift(ballots.keys, len(ballots.voters))
    votes = [
        {
            "process_key": key.process_key,
            "votes": len(key.votes),
            "total_variation": float(influence.shift[at]),
            "reference": key.reference.tolist(),
            "agreed": agreed(key.votes).tolist(),
        }
        for at, key in enumerate(ballots.keys)
    ]
    evidence = [asdict(line) for line in weigh_evidence(ballots, influence, around)]
    return {
        "votes": votes,
        "influence": {
            "separation": influence.separation,
            "stands_apart": influence.stands_apart,
            "undone_without_group": influence.undone,
            "smallest_set": influence.smallest_set,
            "voters": int((influence.keys > 0).sum()),
            "left_out": [{"agents": number, "undone": share} for number, share in influence.curve],
        },
        "agents": _agents(ballots, influence),
        "group": [ballots.voters[at].agent_id for at in np.flatnonzero(influence.group).tolist()],
        "evidence": evidence,
        "evidence_points": {
            way: sum(line["points"] == way for line in evidence) for way in ("organic", "adversarial", "neither")
        },
    }


def _agents(ballots: Ballots, influence: Influence) -> list[dict[str, Any]]:
    """Return the agents that stand furthest towards the shift."""
    foremost = np.argsort(-influence.score, kind="stable")[:SHOWN_AGENTS].tolist()
    return [
        {
            **ballots.voters[at]._asdict(),
            "keys": int(influence.keys[at]),
            "score": float(influence.score[at]),
            "undone_alone": float(influence.alone[at]),
            "in_group": bool(influence.group[at]),
        }
        for at in foremost
    ]

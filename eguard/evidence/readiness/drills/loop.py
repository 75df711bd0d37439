"""The fleet's loop on the fleet itself: uploads of real endpoints, an aggregation, seeds fetched and used."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from eguard.evidence.readiness.course import FRESH_SECONDS, Course, DrillOptions
from eguard.fleet.tables import endpoint_agent, endpoint_baseline, endpoint_inventory, fleet_generation

TITLE: Final = "Aggregate now, and follow uploads, seeds and their use by endpoints with live sensors"
_DAY_SECONDS: Final = 86_400.0

_agent, _machine, _row, _generation = endpoint_agent.c, endpoint_inventory.c, endpoint_baseline.c, fleet_generation.c


def run(course: Course, options: DrillOptions) -> None:
    """Run the drill."""
    uploaded = course.rows("endpoints with a live sensor that uploaded within a day", _uploads(course.now()))
    course.check(
        "endpoints that uploaded",
        len(uploaded),
        f"at least {options.min_agents}, heard within {FRESH_SECONDS:.0f} s, that replay no recording",
        passed=len(uploaded) >= options.min_agents,
    )
    report = course.run("fleet", "aggregate")
    course.check("process keys aggregated", report["aggregated"], "at least 1", passed=report["aggregated"] >= 1)
    page = course.run("fleet", "rows", "--limit", "1000")
    course.check(
        "rows handed out of the current generation",
        {"generation": page["generation"], "rows": len(page["fleet_baselines"])},
        f"generation {report['generation']}, at least 1 row",
        passed=page["generation"] >= report["generation"] and bool(page["fleet_baselines"]),
    )
    found: dict[str, list[dict[str, Any]]] = {}

    def is_complete() -> bool:
        found["fetched"] = course.rows("endpoints that fetched seeds within a day", _fetches(course.now()))
        found["seeded"] = course.rows(
            "endpoints whose uploads say which generation they use, later than it was made", _seeded(course.now())
        )
        return bool(found["fetched"] and found["seeded"])

    course.wait(is_complete, options.wait_seconds, "endpoints fetch seeds and upload again")
    course.check("endpoints that fetched seeds", len(found["fetched"]), "at least 1", passed=bool(found["fetched"]))
    course.check(
        "endpoints that use a seed and said so",
        len(found["seeded"]),
        "at least 1: an upload newer than the generation that it names as its prior",
        passed=bool(found["seeded"]),
    )


def _live(now: float) -> sa.ColumnElement[bool]:
    """Return the condition of a real endpoint: active, heard lately, with a sensor that watches it now."""
    return sa.and_(
        _agent.status == "active",
        _agent.last_heartbeat >= now - FRESH_SECONDS,
        _machine.sensor.not_in(["", "replay"]),
        _machine.kernel_version != "",
    )


def _uploads(now: float) -> sa.Select[Any]:
    joined = endpoint_agent.join(endpoint_inventory, _machine.agent_id == _agent.agent_id)
    joined = joined.join(endpoint_baseline, _row.agent_id == _agent.agent_id)
    columns = (_agent.agent_id, _machine.sensor, _machine.os_version, _machine.kernel_version)
    return (
        sa.select(*columns, sa.func.count().label("profiles"), sa.func.max(_row.updated_at).label("latest_upload"))
        .select_from(joined)
        .where(_live(now), _row.updated_at >= now - _DAY_SECONDS)
        .group_by(*columns)
        .order_by(_agent.agent_id)
    )


def _fetches(now: float) -> sa.Select[Any]:
    return (
        sa.select(_agent.agent_id, _agent.last_seed_at, _agent.baseline_status)
        .select_from(endpoint_agent.join(endpoint_inventory, _machine.agent_id == _agent.agent_id))
        .where(_live(now), _agent.last_seed_at >= now - _DAY_SECONDS)
        .order_by(_agent.agent_id)
    )


def _seeded(now: float) -> sa.Select[Any]:
    joined = endpoint_agent.join(endpoint_inventory, _machine.agent_id == _agent.agent_id)
    joined = joined.join(endpoint_baseline, _row.agent_id == _agent.agent_id)
    joined = joined.join(fleet_generation, _generation.generation == _row.prior_generation)
    columns = (_agent.agent_id, _row.prior_generation, _generation.computed_at)
    return (
        sa.select(*columns, sa.func.count().label("profiles"), sa.func.max(_row.updated_at).label("latest_upload"))
        .select_from(joined)
        .where(_live(now), _row.updated_at >= now - _DAY_SECONDS, _row.updated_at > _generation.computed_at)
        .group_by(*columns)
        .order_by(_agent.agent_id, _row.prior_generation)
    )

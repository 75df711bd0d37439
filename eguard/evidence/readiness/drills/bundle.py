"""The bundle's way to this endpoint: signatures, expiry, and counts that corroborate."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from eguard.evidence.readiness.agents import FRESH_SECONDS
from eguard.evidence.readiness.course import Course, DrillOptions
from eguard.evidence.readiness.doctor import examine
from eguard.fleet.tables import endpoint_agent

TITLE: Final = "Fetch the bundle as this endpoint's agent does: signatures, expiry, counts; and what agents run"
_CHECKS: Final = ("bundle_signature", "bundle_expiry", "bundle_content")

_agent = endpoint_agent.c


def run(course: Course, options: DrillOptions) -> None:  # noqa: ARG001 - every drill is called alike
    """Run the drill."""
    examine(course, _CHECKS)
    if course.has_database:
        rows = course.rows("bundles that active agents run", _versions(course.now()))
        without = sum(row["agents"] for row in rows if not row["bundle_version"])
        course.check("agents that run without a bundle", without, "none", passed=not without)


def _versions(now: float) -> sa.Select[Any]:
    return (
        sa.select(_agent.bundle_version, sa.func.count().label("agents"))
        .where(_agent.status == "active", _agent.last_heartbeat >= now - FRESH_SECONDS)
        .group_by(_agent.bundle_version)
        .order_by(_agent.bundle_version)
    )

"""What endpoint drills ask where the fleet's database is at hand; on an endpoint it is not, nor is what reads it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from eguard.evidence.readiness.course import FRESH_SECONDS
from eguard.fleet.tables import endpoint_agent, endpoint_certificate

_agent, _certificate = endpoint_agent.c, endpoint_certificate.c


def bundles_in_use(now: float) -> sa.Select[Any]:
    """Return the question which bundles active agents run, and how many each."""
    return (
        sa.select(_agent.bundle_version, sa.func.count().label("agents"))
        .where(_agent.status == "active", _agent.last_heartbeat >= now - FRESH_SECONDS)
        .group_by(_agent.bundle_version)
        .order_by(_agent.bundle_version)
    )


def agents_without_certificate(now: float) -> sa.Select[Any]:
    """Return the question which agents were heard though none of their certificates is valid."""
    valid = sa.exists().where(
        _certificate.agent_id == _agent.agent_id, _certificate.revoked_at.is_(None), _certificate.not_after > now
    )
    return (
        sa.select(_agent.agent_id, _agent.last_heartbeat)
        .where(_agent.status == "active", _agent.last_heartbeat >= now - FRESH_SECONDS, ~valid)
        .order_by(_agent.agent_id)
    )

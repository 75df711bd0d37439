"""The agent that a drill works with: chosen, given a policy of the drill's own, watched, and given back as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa

from eguard.errors import EvidenceError
from eguard.evidence.readiness.course import FRESH_SECONDS, Course
from eguard.fleet.tables import endpoint_agent, endpoint_inventory, policy_assignment
from eguard.policy import bucket_limit

#: The policy of drills. It governs the one agent that is drilled with, for as long as that takes.
POLICY: Final = "readiness-drill"
_REASON: Final = "readiness drill"

_agent, _machine = endpoint_agent.c, endpoint_inventory.c


def choose_agent(course: Course, wanted: str = "") -> str:
    """Return the agent to drill with: the one that is named, else the active one that was heard last.

    Raises
    ------
    EvidenceError
        There is none that was heard lately, or it is not active.
    """
    query = (
        sa.select(
            _agent.agent_id,
            _agent.status,
            _agent.agent_version,
            _agent.last_heartbeat,
            _machine.os_version,
            _machine.kernel_version,
            _machine.sensor,
        )
        .select_from(endpoint_agent.outerjoin(endpoint_inventory, _machine.agent_id == _agent.agent_id))
        .where(_agent.status == "active", _agent.last_heartbeat >= course.now() - FRESH_SECONDS)
        .order_by(_agent.last_heartbeat.desc())
        .limit(1)
    )
    rows = course.rows("the agent of the drill", query.where(_agent.agent_id == wanted) if wanted else query)
    if not rows:
        who = f"the agent {wanted}" if wanted else "any agent"
        raise EvidenceError(
            f"no heartbeat of {who} within {FRESH_SECONDS:.0f} s, or it is not active",
            remedy="Name an agent that runs with --agent; `eguard server agent list` shows them.",
        )
    return str(rows[0]["agent_id"])


def vitals(course: Course, agent_id: str, title: str) -> dict[str, Any]:
    """Return how an agent is, as the server knows."""
    query = sa.select(
        _agent.agent_id,
        _agent.policy_revision,
        _agent.last_heartbeat,
        _agent.events_total,
        _agent.incarnation,
        _agent.last_upload_at,
        _agent.last_seed_at,
    ).where(_agent.agent_id == agent_id)
    return course.rows(title, query)[0]


def wait_for_revision(course: Course, agent_id: str, revision: int, seconds: float, title: str) -> list[dict[str, Any]]:
    """Watch an agent until a heartbeat says that it follows a revision; return its vitals at every heartbeat seen."""
    seen = [vitals(course, agent_id, title)]

    def follows() -> bool:
        found = vitals(course, agent_id, title)
        if found["last_heartbeat"] != seen[-1]["last_heartbeat"]:
            seen.append(found)
        return (found["policy_revision"] or 0) >= revision

    course.wait(follows, seconds, f"{agent_id} takes revision {revision}")
    seen.append(vitals(course, agent_id, title))
    return seen


@contextmanager
def lent_agent(course: Course, agent_id: str) -> Iterator[int]:
    """Give an agent a policy of the drill's own, yield its revision, and give the agent back as it was.

    The policy lets it upload and take seeds. It keeps the agent on the side of the bundle canary where it is, and asks
    for no baseline mode, so that nothing is learned anew.
    """
    before = course.rows(
        "the agent's own assignment before",
        sa.select(policy_assignment.c.policy_id, policy_assignment.c.policy_version).where(
            policy_assignment.c.scope == "agent", policy_assignment.c.scope_id == agent_id
        ),
    )
    sent = course.run("policy", "show", "--agent", agent_id)
    bundle_percent = sent["policy"].get("bundle_canary_percent", 100)
    has_candidate = sent["bucket"] < bucket_limit(bundle_percent)
    made = course.run("policy", "create", "-", "--reason", _REASON, stdin=json.dumps(_policy(has_candidate)))
    try:
        assigned = course.run("policy", "assign", POLICY, "--agent", agent_id, "--reason", _REASON)
        yield max(int(made["revision"]), int(assigned["revision"]))
    finally:
        # A switch that was thrown holds the policy's rollout; a held one must not be found by whoever looks next.
        course.run("policy", "resume", "--policy", POLICY, "--reason", _REASON, accepted=(0, 1, 2))
        give_back(course, agent_id, before[0] if before else {})


def give_back(course: Course, agent_id: str, before: dict[str, Any]) -> None:
    """Put an agent's assignment back to what it was."""
    if before.get("policy_id"):
        version = ("--version", before["policy_version"]) if before["policy_version"] else ()
        course.run("policy", "assign", before["policy_id"], "--agent", agent_id, *version, "--reason", _REASON)
    else:
        course.run("policy", "withdraw", "--agent", agent_id, "--reason", _REASON)


def _policy(has_candidate: bool) -> dict[str, Any]:
    return {
        "policy_id": POLICY,
        "policy_version": "v1",
        "policy_json": {
            "baseline_upload_enabled": True,
            "fleet_seed_enabled": True,
            "baseline_upload_canary_percent": 100,
            "fleet_seed_canary_percent": 100,
            "bundle_canary_percent": 100 if has_candidate else 0,
        },
    }

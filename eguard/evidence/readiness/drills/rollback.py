"""The rollback of the manual, section 7.3, walked with one agent: off, stable policy, verified, enabled again."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from eguard.evidence.readiness.agents import POLICY, choose_agent, lent_agent, wait_for_revision
from eguard.evidence.readiness.course import Course, DrillOptions
from eguard.fleet.tables import audit_log, endpoint_agent, endpoint_inventory

TITLE: Final = "Roll one agent's policy back in the manual's five steps, and begin again at a canary"
#: Steps that are done at once; the third is the operator's, the fourth is looked at here.
_DONE: Final = (1, 2)
_HEARTBEAT_SECONDS: Final = 120.0
_INVENTORY_SECONDS: Final = 7200.0

_agent, _machine, _log = endpoint_agent.c, endpoint_inventory.c, audit_log.c


def run(course: Course, options: DrillOptions) -> None:
    """Run the drill."""
    agent_id = choose_agent(course, options.agent)
    began = course.now()
    with lent_agent(course, agent_id) as revision:
        wait_for_revision(course, agent_id, revision, options.wait_seconds, "the agent before the rollback")
        answer = course.run("policy", "rollback", POLICY, "--reason", "readiness drill: rollback")
        states = {step["step"]: step["state"] for step in answer["steps"]}
        course.check(
            "the manual's five steps",
            states,
            "1 and 2 done, 3 to 5 named",
            passed=sorted(states) == [1, 2, 3, 4, 5] and all(states[number] == "done" for number in _DONE),
        )
        sent = course.run("policy", "show", "--agent", agent_id)
        course.check(
            "the policy that the agent is sent", sent["policy_id"], "default", passed=sent["policy_id"] == "default"
        )
        seen = wait_for_revision(
            course, agent_id, int(sent["revision"]), options.wait_seconds, "the agent after the rollback"
        )
        reached = (seen[-1]["policy_revision"] or 0) >= int(sent["revision"])
        course.check("the agent follows it", seen[-1]["policy_revision"], f"{sent['revision']}", passed=reached)
        _verify(course, agent_id)
        forced = ("--force", "--reason", "readiness drill: enable again")
        again = course.run("policy", "advance", POLICY, "--to", "1", *forced)
        stage = (again["from_percent"], again["stage_percent"])
        course.check("enabled again by a canary", list(stage), "from 0 to 1 percent", passed=stage == (0, 1))
    query = sa.select(_log.sequence, _log.at, _log.principal, _log.action, _log.object_id)
    query = query.where(_log.object_id == POLICY, _log.at >= began - 1.0).order_by(_log.sequence)
    actions = [row["action"] for row in course.rows("what the audit log says of it", query)]
    course.check("documented", actions, "policy.rollback is on record", passed="policy.rollback" in actions)


def _verify(course: Course, agent_id: str) -> None:
    """Look at heartbeat, inventory and telemetry, as the fourth step asks."""
    query: sa.Select[Any] = (
        sa.select(
            _agent.agent_id, _agent.last_heartbeat, _agent.events_total, _machine.collected_at, _machine.kernel_version
        )
        .select_from(endpoint_agent.outerjoin(endpoint_inventory, _machine.agent_id == _agent.agent_id))
        .where(_agent.agent_id == agent_id)
    )
    (row,) = course.rows("heartbeat, inventory and telemetry after the rollback", query)
    heard, collected = course.now() - row["last_heartbeat"], course.now() - (row["collected_at"] or 0.0)
    course.check(
        "seconds since its heartbeat",
        round(heard, 1),
        f"at most {_HEARTBEAT_SECONDS:.0f}",
        passed=heard <= _HEARTBEAT_SECONDS,
    )
    course.check(
        "seconds since its inventory",
        round(collected, 1) if row["collected_at"] else None,
        f"at most {_INVENTORY_SECONDS:.0f}",
        passed=collected <= _INVENTORY_SECONDS,
    )
    course.check("events counted", row["events_total"], "some", passed=bool(row["events_total"]))

"""The rollout that reached everybody: its stages from the audit log, unforced, and nothing bad on the way."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa

from eguard.errors import EvidenceError
from eguard.evidence.readiness.agents import POLICY as DRILL_POLICY
from eguard.evidence.readiness.course import Course, DrillOptions
from eguard.fleet.tables import audit_log, notification

TITLE: Final = "Read the stages of the rollout that reached 100 percent, and look for trouble on the way"
STAGES: Final = (1.0, 5.0, 20.0, 100.0)
_DWELL_SECONDS: Final = 1800.0
#: What ends a rollout badly, or means that somebody had to step in.
_SETBACKS: Final = ("policy.kill", "policy.rollback", "rollout.freeze", "fleet.drift_alarm", "fleet.rollback")

_log, _message = audit_log.c, notification.c


def run(course: Course, options: DrillOptions) -> None:
    """Run the drill."""
    steps = _steps(course, options.policy or _latest_policy(course))
    policy = str(steps[-1]["object_id"])
    course.run("policy", "status", policy)
    reached = [float(step["detail"]["to_percent"]) for step in steps]
    course.check("stages", reached, "1, 5, 20, 100 in this order", passed=reached == list(STAGES))
    forced = [step["detail"]["to_percent"] for step in steps if step["detail"].get("forced")]
    course.check("stages that were forced", forced, "none", passed=not forced)
    dwelt = [round(later["at"] - earlier["at"]) for earlier, later in pairwise(steps)]
    course.check(
        "seconds in each stage", dwelt, f"at least {_DWELL_SECONDS:.0f}", passed=all(s >= _DWELL_SECONDS for s in dwelt)
    )
    since, until = float(steps[0]["at"]), min(float(steps[-1]["at"]) + _DWELL_SECONDS, course.now())
    course.check(
        "seconds at 100 percent",
        round(course.now() - steps[-1]["at"]),
        f"at least {_DWELL_SECONDS:.0f}",
        passed=course.now() - steps[-1]["at"] >= _DWELL_SECONDS,
    )
    setbacks = course.rows("what was stopped, frozen or taken back meanwhile", _setbacks(policy, since, until))
    course.check("setbacks", [row["action"] for row in setbacks], "none", passed=not setbacks)
    critical = course.rows("critical messages to operators meanwhile", _critical(since, until))
    course.check("Sev-1/2 incidents", [row["title"] for row in critical], "none", passed=not critical)


def _latest_policy(course: Course) -> str:
    query = (
        sa.select(_log.object_id, _log.detail)
        .where(_log.action == "policy.advance", _log.object_id != DRILL_POLICY)
        .order_by(_log.sequence.desc())
        .limit(200)
    )
    rows = course.rows("rollouts that went forward, the latest first", query)
    done = [row["object_id"] for row in rows if row["detail"]["to_percent"] == STAGES[-1]]
    if not done:
        raise EvidenceError(
            "no rollout has reached 100 percent",
            remedy="Roll a policy out: docs/how-to/roll-out.md, then run it again.",
        )
    return str(done[0])


def _steps(course: Course, policy: str) -> list[dict[str, Any]]:
    """Return the steps of the policy's latest way from nobody to everybody, in order."""
    query = sa.select(_log.sequence, _log.at, _log.principal, _log.action, _log.object_id, _log.detail)
    query = query.where(_log.action == "policy.advance", _log.object_id == policy).order_by(_log.sequence)
    rows = course.rows(f"steps of the rollout of {policy}", query)
    last = max((n for n, row in enumerate(rows) if row["detail"]["to_percent"] == STAGES[-1]), default=None)
    if last is None:
        raise EvidenceError(
            f"the rollout of {policy} has not reached 100 percent",
            remedy=f"Go on with it: eguard policy advance {policy}",
        )
    first = max((n for n in range(last + 1) if rows[n]["detail"]["from_percent"] == 0), default=0)
    return rows[first : last + 1]


def _setbacks(policy: str, since: float, until: float) -> sa.Select[Any]:
    return (
        sa.select(_log.sequence, _log.at, _log.principal, _log.action, _log.object_id)
        .where(
            _log.action.in_(_SETBACKS),
            _log.at >= since,
            _log.at <= until,
            # A drill stops and takes back a policy of its own, which no rollout depends on.
            sa.or_(_log.object_type != "policy", _log.object_id.in_([policy, "*"])),
        )
        .order_by(_log.sequence)
    )


def _critical(since: float, until: float) -> sa.Select[Any]:
    return (
        sa.select(_message.kind, _message.severity, _message.title, _message.created_at)
        .where(_message.severity == "critical", _message.created_at >= since, _message.created_at <= until)
        .order_by(_message.created_at)
    )

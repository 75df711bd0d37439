"""The kill switch on an agent that goes on running: off within a heartbeat, nothing restarted, on again afterwards."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

from eguard.evidence.readiness.agents import POLICY, choose_agent, lent_agent, vitals, wait_for_revision
from eguard.evidence.readiness.course import Course, DrillOptions

TITLE: Final = "Switch one agent's uploads and seeds off by policy while it runs, and on again"
#: The agent stops within five seconds of the switch; that it did is known with its next heartbeat.
_HEARTBEAT_SECONDS: Final = 60.0


def run(course: Course, options: DrillOptions) -> None:
    """Run the drill."""
    agent_id = choose_agent(course, options.agent)
    with lent_agent(course, agent_id) as revision:
        before = wait_for_revision(course, agent_id, revision, options.wait_seconds, "the agent before the switch")
        followed = (before[-1]["policy_revision"] or 0) >= revision
        course.check(
            "the agent follows the drill's policy", before[-1]["policy_revision"], f"{revision}", passed=followed
        )
        killed = course.run("policy", "kill", "--policy", POLICY, "--reason", "readiness drill: kill switch")
        at = course.now()
        off = max(int(each["revision"]) for each in killed["revisions"])
        sent = course.run("policy", "show", "--agent", agent_id)
        controls = sent["controls"]
        course.check(
            "what the server lets the agent do at once",
            {name: controls[name] for name in ("upload_enabled", "seed_enabled")},
            "neither uploads nor seeds",
            passed=not controls["upload_enabled"] and not controls["seed_enabled"],
        )
        after = wait_for_revision(course, agent_id, off, options.wait_seconds, "the agent after the switch")
        confirmed = (after[-1]["policy_revision"] or 0) >= off
        seconds = round((after[-1]["last_heartbeat"] or at) - at, 1)
        course.check(
            "seconds until a heartbeat said that the agent follows it",
            seconds if confirmed else None,
            f"at most {_HEARTBEAT_SECONDS:.0f}",
            passed=confirmed and seconds <= _HEARTBEAT_SECONDS,
        )
        upload = after[-1]["last_upload_at"]
        late = None if upload is None else round(upload - at, 1)
        course.check(
            "seconds from the switch to the latest upload", late, "none, or at most 1", passed=late is None or late <= 1
        )
        _check_no_restart(course, [*before, *after])
    vitals(course, agent_id, "the agent given back")


def _check_no_restart(course: Course, seen: list[dict[str, Any]]) -> None:
    """Check that the process went on: heartbeats came, and its count of events, which a new one begins anew, rose."""
    counts = [row["events_total"] or 0 for row in seen]
    is_rising = all(earlier <= later for earlier, later in pairwise(counts))
    names = {row["incarnation"] for row in seen}
    course.check(
        "no restart",
        {"events_total": list(dict.fromkeys(counts)), "incarnations": len(names)},
        "one incarnation, and a count of events that never falls",
        passed=is_rising and len(names) == 1,
    )
    beats = {row["last_heartbeat"] for row in seen}
    course.check("heartbeats seen meanwhile", len(beats), "at least 2", passed=len(beats) >= 2)

"""Checks of the agent's duties towards its server: policy, heartbeat, and all the others, as they really went."""

from __future__ import annotations

from typing import Final

from eguard.errors import PolicyError
from eguard.operations.check import Finding, failed, ok, skipped, warning
from eguard.operations.enrolment import REFUSED
from eguard.operations.examination import Examination
from eguard.operations.policy_look import PolicyLook
from eguard.operations.status_look import DutyView, duration
from eguard.wire.policy import PolicyPayload

#: A difference that makes fresh certificates, commands and heartbeats look wrong.
SKEW_SECONDS: Final = 120.0
#: Heartbeats that may be missing before somebody should look.
_MISSED: Final = 3.0
_START: Final = "Start the agent, or its service: sudo eguard agent run"
#: More alerts than one telemetry batch, with the server connected: they do not keep up.
_BACKLOG_ALERTS: Final = 1000
#: These have checks of their own.
_ELSEWHERE: Final = frozenset({"heartbeat"})


def check_policy(examination: Examination) -> Finding:
    """Check that the agent has the policy that the server has for it, and follows it."""
    if not examination.settings.server:
        return skipped(examination.alone)
    look = examination.policy
    if look.kept_error is not None:
        return failed(
            f"the kept policy does not count: {look.kept_error.message}",
            f"{look.kept_error.remedy} The agent fetches it anew; until then nothing is uploaded and no seed is taken.",
        )
    if isinstance(look.sent_error, PolicyError):
        return failed(
            f"the agent refuses what the server sends ({look.sent_error.context.get('reason', '')}): "
            f"{look.sent_error.message}",
            look.sent_error.remedy,
        )
    if look.kept is None:
        return warning(
            "the agent has no policy yet, so that nothing is uploaded and no seed is taken",
            _fetching(examination),
        )
    return _compare(examination, look, look.kept)


def _compare(examination: Examination, look: PolicyLook, kept: PolicyPayload) -> Finding:
    """Return how the kept policy stands to the server's."""
    words = f"{name_of(kept)}: {describe_controls(look)}"
    if look.sent is None:
        why = f"could not be asked: {look.sent_error.message}" if look.sent_error is not None else "was not asked"
        return ok(f"{words}; the server {why}")
    if look.sent.revision < kept.revision:
        return failed(
            f"the server has revision {look.sent.revision} for this agent, which has {kept.revision} and refuses lower "
            "ones: the server's database was restored",
            "Have the server send its policies anew, above all revisions: eguard policy reissue",
        )
    if look.is_behind:
        return warning(
            f"the agent follows {name_of(kept)}, and the server has {name_of(look.sent)}", _fetching(examination)
        )
    return ok(f"{words}; the server has the same")


def _fetching(examination: Examination) -> str:
    """Return what keeps the agent from fetching its policy."""
    status = examination.status
    if not status.is_running:
        return f"{status.idle[0].upper()}{status.idle[1:]}. {_START}"
    error = status.duty("policy").last_error
    return f"Fetching it fails: {error}. See server_*." if error else "It comes within seconds; run this check again."


def name_of(payload: PolicyPayload) -> str:
    """Return what a policy is called."""
    return f"policy {payload.policy_id!r} version {payload.policy_version!r} revision {payload.revision}"


def describe_controls(look: PolicyLook) -> str:
    """Return what the kept policy allows, and who decided."""
    controls = look.controls
    if controls is None:
        return "nothing is allowed"
    said = [
        f"{name} {'on' if each.enabled else 'off'} (by {each.decided_by}, share {each.percent:g} %)"
        for name, each in (("upload", controls.upload), ("seeds", controls.seed))
    ]
    return f"{', '.join(said)}; canary bucket {controls.bucket} of 10000"


def check_heartbeat(examination: Examination) -> Finding:
    """Check that the agent's heartbeats are answered, and both clocks agree."""
    status = examination.status
    if not examination.settings.server:
        return skipped(examination.alone)
    if not status.exists:
        return skipped(status.idle)
    if not status.is_running:
        return warning(status.idle, _START)
    if not status.has_control:
        return warning(
            "the agent that runs works alone: it was started before this machine had a server", "Restart the agent."
        )
    return _judge_heartbeat(examination, status.duty("heartbeat"))


def _judge_heartbeat(examination: Examination, duty: DutyView) -> Finding:
    status = examination.status
    age = _since(examination, duty)
    last = "never" if age is None else f"{duration(age)} ago"
    if duty.last_error:
        return failed(
            f"the latest heartbeat failed, the last answer came {last}: {duty.last_error}", _remedy(examination, duty)
        )
    if age is None:
        return warning("no heartbeat was answered yet", "Wait for the first one, then run this check again.")
    if age > _MISSED * duty.interval_seconds + status.age_seconds:
        return warning(
            f"the last heartbeat was answered {last}, and one is due every {duty.interval_seconds:g} s",
            "The agent's detection does not answer, or the machine slept; see eguard agent status and the agent's log.",
        )
    ahead = status.control.heartbeat.get("server_ahead_seconds", 0.0)
    if abs(ahead) > SKEW_SECONDS:
        return warning(
            f"answered {last}; this machine's clock is {abs(ahead):,.0f} s {'behind' if ahead > 0 else 'ahead of'} the "
            "server's",
            "Synchronise both clocks; see the checks clock and clock_sync.",
        )
    return ok(f"answered {last}; the server's clock differs by {abs(ahead):.1f} s")


def check_control_plane(examination: Examination) -> Finding:
    """Check that every duty towards the server is done, and neither alerts nor refusals pile up."""
    status = examination.status
    if not examination.settings.server:
        return skipped(examination.alone)
    if not (status.exists and status.has_control):
        return skipped("no agent has spoken to this server yet")
    failing = {
        name: duty for name, duty in sorted(status.control.duties.items()) if duty.last_error and name not in _ELSEWHERE
    }
    if failing:
        said = [
            f"{name} (last success {_last(examination, duty)}): {duty.last_error}" for name, duty in failing.items()
        ]
        return failed(f"duties fail: {'; '.join(said)}", _remedy(examination, *failing.values()))
    return _judge_counts(examination)


def _judge_counts(examination: Examination) -> Finding:
    status = examination.status
    control, waiting = status.control, status.buffer.waiting
    if control.policy.refusals_total:
        return warning(
            f"the agent refused {control.policy.refusals_total} policies since its start",
            "See the check policy and `refused policy` in the agent's log.",
        )
    if waiting > _BACKLOG_ALERTS:
        return warning(
            f"{waiting:,} alerts wait for the server, which takes 200 at a time",
            "If this does not fall, see the server's log; another run of this check tells.",
        )
    if control.telemetry.get("refused", 0):
        return warning(
            f"the server refused {control.telemetry['refused']} alerts",
            "See `server refused alerts` in the agent's log.",
        )
    if not status.is_running:
        return warning(f"{status.idle}; until then all duties were done", _START)
    done = ", ".join(f"{name} {_last(examination, duty)}" for name, duty in sorted(control.duties.items()))
    return ok(f"all duties are done: {done}; {waiting} alerts wait")


def _since(examination: Examination, duty: DutyView) -> float | None:
    done = duty.last_success_unix
    return None if done is None else max(0.0, examination.clock.now() - done)


def _last(examination: Examination, duty: DutyView) -> str:
    age = _since(examination, duty)
    return "never" if age is None else f"{duration(age)} ago"


def _remedy(examination: Examination, *duties: DutyView) -> str:
    """Return what to do about the first failure that has an answer of its own."""
    for duty in duties:
        if duty.last_error_code in REFUSED:
            return REFUSED[duty.last_error_code][1].format(agent=examination.settings.agent_id)
    if any(duty.last_error_code in {"baseline_upload_disabled", "not_in_canary"} for duty in duties):
        return "See the checks policy and baseline_upload."
    return "See the checks server_name, server_connect, server_tls and server_identity, then the server's log."

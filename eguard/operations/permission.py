"""Whether one direction of the exchange may happen now, and if not, who decided that and what changes it."""

from __future__ import annotations

from typing import Final

from eguard.operations.check import Finding, warning
from eguard.operations.control_plane import name_of
from eguard.operations.examination import Examination
from eguard.operations.policy_look import Direction, PolicyLook
from eguard.policy import DecidedBy, EffectiveControls, ServerVerdict, bucket_limit, parse_policy_document
from eguard.policy.effective import Direction as Effective
from eguard.wire.policy import PolicyPayload

#: What the settings and the policy's fields of a direction begin with.
_PREFIX: Final = {"upload": "baseline_upload", "seed": "fleet_seed"}
#: The words of the server's answers to an upload.
_SAID: Final = {ServerVerdict.DISABLED: "baseline_upload_disabled", ServerVerdict.NOT_IN_CANARY: "not_in_canary"}
_SHOW: Final = "What the server sends this agent: eguard policy show --agent {agent}."


def refusal(examination: Examination, direction: Direction) -> Finding | None:
    """Return who keeps a direction of the exchange from happening, None if nobody does."""
    final = _by_environment(examination, _PREFIX[direction].upper(), direction)
    if final is not None:
        return final
    look = examination.policy
    if look.kept is None or look.controls is None:
        why = (
            f"the kept policy does not count: {look.kept_error.message}" if look.kept_error else "it has no policy yet"
        )
        return warning(
            f"an agent with a server exchanges nothing before a policy is in force, and {why}", "See the check policy."
        )
    return _by_policy(examination, look, look.kept, look.controls, direction)


def allowance(examination: Examination, direction: Direction) -> str:
    """Return who allows a direction that is allowed."""
    kept, controls = examination.policy.kept, examination.policy.controls
    assert kept is not None
    assert controls is not None
    effective = _of(controls, direction)
    who = name_of(kept) if effective.decided_by is DecidedBy.POLICY else f"the environment, and {name_of(kept)}"
    cohort = "" if effective.percent >= 100 else f", {_cohort(kept, controls, effective)}"
    return f"allowed by {who}{cohort}"


def _by_environment(examination: Examination, name: str, direction: Direction) -> Finding | None:
    settings = examination.settings
    is_on, percent = (
        (settings.baseline_upload_enabled, settings.baseline_upload_canary_percent)
        if direction == "upload"
        else (settings.fleet_seed_enabled, settings.fleet_seed_canary_percent)
    )
    if not is_on:
        return warning(
            f"EGUARD_{name}_ENABLED is off, and no policy lifts that",
            f"Set EGUARD_{name}_ENABLED=true, then restart the agent.",
        )
    if percent <= 0:
        return warning(
            f"EGUARD_{name}_CANARY_PERCENT is 0, and no policy lifts that",
            f"Set EGUARD_{name}_CANARY_PERCENT to a share above 0, then restart the agent.",
        )
    return None


def _by_policy(
    examination: Examination, look: PolicyLook, kept: PolicyPayload, controls: EffectiveControls, direction: Direction
) -> Finding | None:
    effective = _of(controls, direction)
    show = _SHOW.format(agent=examination.settings.agent_id)
    if effective.decided_by is DecidedBy.SERVER:
        said = examination.status.server_said(direction)
        return warning(
            f"{name_of(kept)} allows it, and the server's latest answer was {_said(direction, said)}",
            f"{show} See the check policy: the server has a newer one for this agent.",
        )
    if not effective.enabled:
        found = _switched_off(kept, controls, effective, direction, show)
        is_lifted = look.is_behind and look.sent_controls is not None and _of(look.sent_controls, direction).enabled
        if is_lifted and look.sent is not None:
            return warning(
                f"{found.cause}; the server has {name_of(look.sent)}, which allows it", "See the check policy."
            )
        return found
    if look.is_behind and look.sent is not None and look.sent_controls is not None:
        newer = _of(look.sent_controls, direction)
        if not newer.enabled:
            return _switched_off(look.sent, look.sent_controls, newer, direction, show)
    return None


def _switched_off(
    policy: PolicyPayload, controls: EffectiveControls, effective: Effective, direction: Direction, show: str
) -> Finding:
    prefix = _PREFIX[direction]
    if effective.decided_by is DecidedBy.POLICY:
        return warning(
            f"{name_of(policy)} says {prefix}_enabled=false (kill switch)",
            f"{show} To lift it, post the policy with {prefix}_enabled=true (eguard policy create FILE), or assign "
            "another one (eguard policy assign).",
        )
    document = parse_policy_document(policy.policy)
    is_policys = getattr(document, f"{prefix}_canary_percent") is not None
    who = name_of(policy) if is_policys else f"EGUARD_{prefix.upper()}_CANARY_PERCENT"
    what = f"eguard policy advance {policy.policy_id}" if is_policys else "a higher share there, and a restart"
    return warning(
        f"this agent is not in the canary: {_cohort(policy, controls, effective)}, by {who}",
        f"{show} A later stage takes it in: {what}.",
    )


def _cohort(policy: PolicyPayload, controls: EffectiveControls, effective: Effective) -> str:
    return (
        f"its bucket is {controls.bucket} under rollout {policy.rollout_id!r}, and {effective.percent:g} % are the "
        f"buckets below {bucket_limit(effective.percent)} of 10000"
    )


def _said(direction: Direction, verdict: ServerVerdict) -> str:
    return _SAID[verdict] if direction == "upload" else "seed_enabled=false"


def _of(controls: EffectiveControls, direction: Direction) -> Effective:
    return controls.upload if direction == "upload" else controls.seed

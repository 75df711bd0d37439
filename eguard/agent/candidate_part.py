"""What this agent does with a candidate: run it, score with it beside the model in use, or leave it alone."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from eguard.bundle.candidate import CandidateListing
from eguard.policy import EffectiveControls, bucket_limit


class Part(StrEnum):
    """What an agent does with a candidate."""

    NONE = "none"
    SHADOW = "shadow"
    RUN = "run"


Choice = Callable[[CandidateListing], Part]


def take_no_part(_listing: CandidateListing) -> Part:
    """Leave every candidate alone, as an agent without a server does."""
    return Part.NONE


def part_of(controls: EffectiveControls | None, listing: CandidateListing) -> Part:
    """Return an agent's part by its bucket: the cohorts are those of its policy's rollout.

    The share is signed with the candidate, so that no agent of an older policy takes it too early. The policy's
    `bundle_canary_percent` can only make it smaller. Without a policy an agent takes no part.

    Examples
    --------
    >>> from eguard.policy import StartupControls, effective_controls
    >>> from eguard.wire.policy import PolicyPayload
    >>> told = PolicyPayload(revision=1, mode_revision=0, policy_id="p", policy_version="v1", rollout_id="default",
    ...                      agent_id="agent-1", group="default", policy={})
    >>> controls = effective_controls(StartupControls(), told, "agent-1")
    >>> controls.bucket
    254
    >>> shares = [(1.0, 100.0), (2.55, 100.0), (0.0, 2.5)]
    >>> [part_of(controls, CandidateListing(manifest_sha256="0" * 64, model_version="m", percent=runs,
    ...                                     shadow_percent=scores)).value for runs, scores in shares]
    ['shadow', 'run', 'none']
    """
    if controls is None or not controls.takes_candidate_bundle:
        return Part.NONE
    if controls.bucket < bucket_limit(listing.percent):
        return Part.RUN
    return Part.SHADOW if controls.bucket < bucket_limit(listing.shadow_percent) else Part.NONE

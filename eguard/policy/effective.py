"""What an agent may do now: startup settings, policy, canary and the server's answer, met in one pure function.

Each of the four can only take away. A switch that the environment sets to false, or a percentage that it sets to 0, is
final. A policy overrides what the environment leaves open. A server's refusal counts until the policy changes or the
agent asks again. Nothing that went wrong enables anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from eguard.policy.canary import bucket_limit, canary_bucket
from eguard.policy.document import DEFAULT_POLICY_ID, parse_policy_document
from eguard.settings.agent import AgentSettings
from eguard.wire.policy import PolicyPayload


class DecidedBy(StrEnum):
    """Whose word was the last one."""

    ENVIRONMENT = "environment"
    POLICY = "policy"
    CANARY = "canary"
    SERVER = "server"


class ServerVerdict(StrEnum):
    """What a server answered to an upload or a fetch.

    ``allowed`` and ``error`` change nothing: an agent does what its policy says, and an error is no permission.
    """

    ALLOWED = "allowed"
    DISABLED = "disabled"
    NOT_IN_CANARY = "not_in_canary"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """The server's latest words on both directions.

    Parameters
    ----------
    revision : int
        Revision of the policy that the agent had when it asked; 0 without one. A newer policy outdates the answer.
    upload, seed : ServerVerdict
        ``error`` where nothing was asked or nothing came back. The agent forgets an answer when its next regular
        interval begins and it asks again.
    """

    revision: int
    upload: ServerVerdict = ServerVerdict.ERROR
    seed: ServerVerdict = ServerVerdict.ERROR


@dataclass(frozen=True, slots=True)
class StartupControls:
    """The four settings of the environment and the configuration file; percentages in [0, 100]."""

    upload_enabled: bool = True
    seed_enabled: bool = True
    upload_percent: float = 100.0
    seed_percent: float = 100.0

    @classmethod
    def from_settings(cls, settings: AgentSettings) -> Self:
        """Take them from the agent's settings. Their defaults are true and 100: false and 0 were always meant."""
        return cls(
            upload_enabled=settings.baseline_upload_enabled,
            seed_enabled=settings.fleet_seed_enabled,
            upload_percent=settings.baseline_upload_canary_percent,
            seed_percent=settings.fleet_seed_canary_percent,
        )


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of the exchange as it stands.

    Parameters
    ----------
    enabled : bool
        Whether the agent does it.
    decided_by : DecidedBy
        Who said so last.
    percent : float
        Share of the fleet that takes part, in percent, as policy or environment have it.
    """

    enabled: bool
    decided_by: DecidedBy
    percent: float


@dataclass(frozen=True, slots=True)
class EffectiveControls:
    """What holds for one agent.

    Parameters
    ----------
    upload, seed : Direction
        Both directions of the exchange with the fleet.
    bucket : int
        The agent's canary bucket, of 10,000.
    takes_candidate_bundle : bool
        Whether the candidate bundle is for this agent; false without a policy.
    """

    upload: Direction
    seed: Direction
    bucket: int
    takes_candidate_bundle: bool

    @property
    def upload_enabled(self) -> bool:
        """Whether the agent uploads its baseline."""
        return self.upload.enabled

    @property
    def seed_enabled(self) -> bool:
        """Whether the agent takes seeds from the fleet."""
        return self.seed.enabled


def effective_controls(
    startup: StartupControls, policy: PolicyPayload | None, agent_id: str, answer: ServerAnswer | None = None
) -> EffectiveControls:
    """Return what the agent may do, and who decided.

    Parameters
    ----------
    startup : StartupControls
        Settings at the start.
    policy : PolicyPayload, optional
        The last good policy, as `eguard.policy.signing.open_policy` returned it; None if there never was one.
    agent_id : str
        This agent.
    answer : ServerAnswer, optional
        What the server said last; None if it said nothing, or an interval ago.

    Raises
    ------
    PolicyError
        The policy's document is none; `open_policy` lets no such policy through.

    References
    ----------
    Operations manual, sections 3.2 and 7.

    Examples
    --------
    >>> controls = effective_controls(StartupControls(seed_enabled=False), None, "agent-1")
    >>> controls.upload_enabled, controls.seed, controls.bucket
    (True, Direction(enabled=False, decided_by=<DecidedBy.ENVIRONMENT: 'environment'>, percent=100.0), 254)
    """
    document = parse_policy_document(policy.policy if policy is not None else {})
    bucket = canary_bucket(agent_id, policy.rollout_id if policy is not None else DEFAULT_POLICY_ID)
    current = answer if answer is not None and not (policy is not None and policy.revision > answer.revision) else None
    upload = _direction(
        (startup.upload_enabled, startup.upload_percent),
        (document.baseline_upload_enabled, document.baseline_upload_canary_percent),
        bucket,
        current.upload if current is not None else ServerVerdict.ERROR,
    )
    seed = _direction(
        (startup.seed_enabled, startup.seed_percent),
        (document.fleet_seed_enabled, document.fleet_seed_canary_percent),
        bucket,
        current.seed if current is not None else ServerVerdict.ERROR,
    )
    candidate_percent = 100.0 if document.bundle_canary_percent is None else document.bundle_canary_percent
    return EffectiveControls(
        upload=upload,
        seed=seed,
        bucket=bucket,
        takes_candidate_bundle=policy is not None and bucket < bucket_limit(candidate_percent),
    )


def _direction(
    startup: tuple[bool, float], policy: tuple[bool | None, float | None], bucket: int, verdict: ServerVerdict
) -> Direction:
    is_on, percent = startup
    if not is_on or percent <= 0:
        return Direction(enabled=False, decided_by=DecidedBy.ENVIRONMENT, percent=percent)
    policy_switch, policy_percent = policy
    percent = percent if policy_percent is None else policy_percent
    if policy_switch is False:
        return Direction(enabled=False, decided_by=DecidedBy.POLICY, percent=percent)
    if bucket >= bucket_limit(percent):
        return Direction(enabled=False, decided_by=DecidedBy.CANARY, percent=percent)
    if verdict in {ServerVerdict.DISABLED, ServerVerdict.NOT_IN_CANARY}:
        return Direction(enabled=False, decided_by=DecidedBy.SERVER, percent=percent)
    is_by_policy = policy_switch is not None or policy_percent is not None
    return Direction(
        enabled=True, decided_by=DecidedBy.POLICY if is_by_policy else DecidedBy.ENVIRONMENT, percent=percent
    )

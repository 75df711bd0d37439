"""What agents are sent, and what the server lets them do: read from memory, signed on the way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.policy import bucket_limit, canary_bucket, sign_policy
from eguard.server.services.policy_keys import PolicyKeys, trusted_keys
from eguard.server.services.policy_state import Chosen, PolicyState
from eguard.server.services.policy_view import PolicyView
from eguard.wire.control import PolicyKey
from eguard.wire.policy import PolicyPayload, SignedPolicy


class Controls(NamedTuple):
    """What the server lets an agent do: switches, its place in the canary, and the revision that says so."""

    upload_enabled: bool
    upload_in_canary: bool
    seed_enabled: bool
    seed_in_canary: bool
    revision: int


class SentPolicies:
    """The policies of agents, as of at most half a second ago.

    Parameters
    ----------
    clock : Clock
        Says which entries of the whitelist hold, and which key signs.
    keys : PolicyKeys
        What policies are signed with.
    view : PolicyView
        What is in force, in memory.
    """

    def __init__(self, clock: Clock, keys: PolicyKeys, view: PolicyView) -> None:
        self._clock = clock
        self._keys = keys
        self._view = view

    def trusted_keys(self) -> tuple[PolicyKey, ...]:
        """Return the keys that an agent is told to trust when it enrols."""
        return self._keys.trusted()

    def controls_for(self, agent_id: str) -> Controls:
        """Return what the server lets an agent do, as of at most half a second ago."""
        return self.controls_for_all([agent_id])[0]

    def controls_for_all(self, agent_ids: Sequence[str]) -> list[Controls]:
        """Return what the server lets several agents do."""
        state = self._view.state()
        places = self._view.places(state, agent_ids)
        return [_controls(each, state.chosen(each, place)) for each, place in zip(agent_ids, places, strict=True)]

    def may_seed(self, agent_id: str) -> bool:
        """Tell whether an agent may take seeds now."""
        controls = self.controls_for(agent_id)
        return controls.seed_enabled and controls.seed_in_canary

    def known_controls(self, agent_id: str) -> Controls | None:
        """Return what `controls_for` would if that needs no database now, none otherwise; it never waits."""
        chosen = self._view.known(agent_id)
        return None if chosen is None else _controls(agent_id, chosen)

    def revision_for(self, agent_id: str) -> int:
        """Return the revision that an agent is sent."""
        return self.revisions_for([agent_id])[0]

    def revisions_for(self, agent_ids: Sequence[str]) -> list[int]:
        """Return the revisions that several agents are sent."""
        state = self._view.state()
        places = self._view.places(state, agent_ids)
        return [state.chosen(*each).revision for each in zip(agent_ids, places, strict=True)]

    def payload_for(self, agent_id: str) -> PolicyPayload:
        """Return what an agent is sent, before it is signed."""
        return self._payload(self._view.state(), agent_id)

    def explain(self, agent_id: str) -> dict[str, Any]:
        """Return what an agent is sent, where that comes from, and what it may do.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_agent``.
        """
        state = self._view.state()
        if agent_id not in state.places:
            self._view.place(state, agent_id)
        if agent_id not in state.places:
            raise ServerRefusalError(404, "unknown_agent", f"there is no agent {agent_id}")
        chosen = state.chosen(agent_id, state.places[agent_id])
        return {
            "source": chosen.source,
            "bucket": canary_bucket(agent_id, chosen.policy.rollout_id),
            "controls": self.controls_for(agent_id)._asdict(),
            **msgspec.to_builtins(self._payload(state, agent_id)),
        }

    def signed_for(self, agent_id: str) -> SignedPolicy:
        """Return what an agent is sent.

        Raises
        ------
        ConfigError
            The signing key cannot be read.
        """
        return self.signed_for_all([agent_id])[0]

    def signed_for_all(self, agent_ids: Sequence[str]) -> list[SignedPolicy]:
        """Return what several agents are sent, all as of one moment."""
        state = self._view.state()
        signer = self._keys.signer(state.keys)
        return [sign_policy(self._payload(state, agent_id), signer) for agent_id in agent_ids]

    def _payload(self, state: PolicyState, agent_id: str) -> PolicyPayload:
        place = self._view.place(state, agent_id)
        chosen = state.chosen(agent_id, place)
        now = self._clock.now()
        return PolicyPayload(
            revision=chosen.revision,
            mode_revision=chosen.mode_revision,
            policy_id=chosen.policy.policy_id,
            policy_version=chosen.policy.policy_version,
            rollout_id=chosen.policy.rollout_id,
            agent_id=agent_id,
            group=place.group,
            policy=chosen.policy.document.to_json(),
            whitelist=state.whitelist_for(agent_id, place.group, now),
            policy_keys=trusted_keys(state.keys, now),
        )


def _is_in(bucket: int, percent: float | None) -> bool:
    return percent is None or bucket < bucket_limit(percent)


def _controls(agent_id: str, chosen: Chosen) -> Controls:
    document, bucket = chosen.policy.document, canary_bucket(agent_id, chosen.policy.rollout_id)
    return Controls(
        upload_enabled=document.baseline_upload_enabled is not False,
        upload_in_canary=_is_in(bucket, document.baseline_upload_canary_percent),
        seed_enabled=document.fleet_seed_enabled is not False,
        seed_in_canary=_is_in(bucket, document.fleet_seed_canary_percent),
        revision=chosen.revision,
    )

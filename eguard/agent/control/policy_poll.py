"""Asking for the policy, with the answer withheld until there is a new one: a change arrives within a second or two."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from eguard.agent.control.answers import decoded
from eguard.agent.control.client import ControlClient, Request
from eguard.agent.control.desk import RuntimeDesk
from eguard.agent.control.policies import PolicyKeeper
from eguard.errors import ConfigError
from eguard.wire.control import PolicyKeys
from eguard.wire.policy import SignedPolicy

#: A policy with a large whitelist, escaped once more as text in JSON.
MAX_POLICY_BYTES: Final = 2_200_000
#: What an answer may take beyond the time that it may be withheld for.
_GRACE_SECONDS: Final = 15.0
#: A server that answers at once, without news, is not asked again before this.
_PACE_SECONDS: Final = 1.0
_NO_CONTENT: Final = 204

_log = structlog.get_logger("eguard.agent")


class PolicyPoll:
    """The duty that keeps the policy current.

    Parameters
    ----------
    client : ControlClient
    policies : PolicyKeeper
    desk : RuntimeDesk
        Carries the wanted mode and the whitelist to detection.
    wait_seconds : float
        For how long the server may withhold its answer.
    changed : callable
        Called after another policy came into force.
    """

    def __init__(
        self,
        client: ControlClient,
        policies: PolicyKeeper,
        desk: RuntimeDesk,
        *,
        wait_seconds: float,
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._client = client
        self._policies = policies
        self._desk = desk
        self._wait_seconds = wait_seconds
        self._changed = changed
        self._done_mode_revision = 0

    def poll(self) -> float | None:
        """Ask once; return the pause until the next time, None for the duty's interval.

        Raises
        ------
        PolicyError
            What was sent is refused.
        ServerRefusalError, ServerUnavailableError
            As `ControlClient.send`.
        """
        self._apply()
        if self._policies.needs_keys:
            # The channel is the one that an enrolment's answer would have come by.
            self._policies.trust(self._client.get("/endpoint/policy/keys", PolicyKeys).policy_keys)
        began = time.monotonic()
        query: dict[str, str | int] = {"revision": self._policies.revision, "wait": int(self._wait_seconds)}
        deadline = self._wait_seconds + _GRACE_SECONDS
        answer = self._client.send(
            Request("/endpoint/policy", query=query, deadline_seconds=deadline, max_bytes=MAX_POLICY_BYTES)
        )
        if answer.status != _NO_CONTENT:
            self._take(answer.body)
        if self._wait_seconds < _PACE_SECONDS:
            return None
        return max(0.0, _PACE_SECONDS - (time.monotonic() - began))

    def _take(self, body: bytes) -> None:
        # The payload is one long text, and is read strictly itself once its signature holds.
        if self._policies.take(decoded(body, SignedPolicy, self._client.server)):
            self._apply()
            self._changed()

    def _apply(self) -> None:
        """Carry to the runtime what it does not have yet."""
        now = time.time()
        entries = self._policies.whitelist
        self._desk.use_whitelist(
            tuple(each for each in entries if each.expires_at_unix is None or now < each.expires_at_unix)
        )
        wanted = self._policies.wanted_mode
        if wanted is None or wanted[1] <= self._done_mode_revision:
            return
        mode, revision = wanted
        try:
            self._desk.apply_mode(str(mode), revision)
        except ConfigError as error:
            _log.warning("policy's baseline mode cannot be applied", mode=str(mode), reason=error.message)
        self._done_mode_revision = revision

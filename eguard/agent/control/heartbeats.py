"""The heartbeat: how the agent is, and what the server has for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from eguard import __version__
from eguard.agent.control.client import ControlClient
from eguard.agent.control.desk import RuntimeDesk
from eguard.agent.control.policies import PolicyKeeper
from eguard.agent.status_file import resident_bytes
from eguard.wire.control import Heartbeat, HeartbeatAnswer


class Heartbeats:
    """The duty that reports how the agent is.

    A heartbeat says that detection runs: it is sent only after the runtime's thread has answered for itself.

    Parameters
    ----------
    client : ControlClient
    desk : RuntimeDesk
    policies : PolicyKeeper
    agent_id : str
    policy_moved, commands_wait : callable
        Called when the server has a newer policy, or commands.

    Attributes
    ----------
    server_ahead_seconds : float
        How far the server's clock is ahead of this machine's, by the latest answer.
    """

    def __init__(
        self,
        client: ControlClient,
        desk: RuntimeDesk,
        policies: PolicyKeeper,
        *,
        agent_id: str,
        policy_moved: Callable[[], object] = lambda: None,
        commands_wait: Callable[[], object] = lambda: None,
    ) -> None:
        self._client = client
        self._desk = desk
        self._policies = policies
        self._agent_id = agent_id
        self._policy_moved = policy_moved
        self._commands_wait = commands_wait
        self._busy = (time.monotonic(), time.process_time())
        self.server_ahead_seconds = 0.0

    def beat(self) -> None:
        """Send one heartbeat and pass on what the answer says.

        Raises
        ------
        AgentBusyError
            Detection does not answer; the server will miss this agent, rightly.
        ServerRefusalError, ServerUnavailableError
            As `ControlClient.send`.
        """
        vitals = self._desk.vitals()
        answer = self._client.post(
            "/endpoint/heartbeat",
            Heartbeat(
                agent_id=self._agent_id,
                incarnation=vitals.incarnation,
                agent_version=__version__,
                bundle_version=vitals.bundle_version,
                policy_revision=self._policies.revision,
                baseline_status=vitals.baseline_status,
                cpu_fraction=self._cpu_fraction(),
                rss_bytes=resident_bytes(),
                events_total=vitals.events_total,
                events_lost=vitals.events_lost,
                queue_depth=vitals.queue_depth,
                trees_seen=vitals.trees_seen,
                trees_anomalous=vitals.trees_anomalous,
                destinations_scored=vitals.destinations_scored,
                destinations_confirmed=vitals.destinations_confirmed,
                destinations_alpha=vitals.destinations_alpha,
                bundle_digest=vitals.bundle_digest,
                bundle_state=vitals.bundle_state,
                refused_digest=vitals.refused_digest,
                refused_code=vitals.refused_code,
                shadow=vitals.shadow,
            ),
            HeartbeatAnswer,
        )
        self.server_ahead_seconds = answer.server_time_unix - time.time()
        if answer.policy_revision > self._policies.revision:
            self._policy_moved()
        if answer.commands_pending > 0:
            self._commands_wait()

    def describe(self) -> dict[str, Any]:
        """Return how far the server's clock is ahead."""
        return {"server_ahead_seconds": round(self.server_ahead_seconds, 3)}

    def _cpu_fraction(self) -> float:
        """Return the share of one core used since the last heartbeat."""
        then, used = self._busy
        self._busy = (time.monotonic(), time.process_time())
        share = (self._busy[1] - used) / max(self._busy[0] - then, 1e-3)
        return min(max(share, 0.0), 4096.0)

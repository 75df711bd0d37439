"""Agents of a running server, one certificate each, and its operator: everything goes over TLS, as in a real fleet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from eguard import __version__
from eguard.agent.control.client import ControlClient, Request
from eguard.agent.control.credentials import AUTHORITY_NAME, IDENTITY_NAME, TlsFiles, trusting_context
from eguard.agent.control.enrol import enrol
from eguard.baseline.upload import pack_uploads
from eguard.errors import ServerRefusalError, SimulationError
from eguard.wire.baseline import BaselineRow, UpsertResult
from eguard.wire.control import INCARNATION_HEADER, Heartbeat, HeartbeatAnswer
from eguard.wire.fleet import MAX_PAGE_BYTES, FleetRow, decode_fleet_page

_INCARNATION: Final = "simulated"
_REPORT_BYTES: Final = 16 << 20
_AGGREGATION_SECONDS: Final = 120.0
_RETRY_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server listens, what its certificate is checked against, and an access token of an admin."""

    agents: str
    administration: str
    authority: Path
    token: str


class HttpAgent:
    """One agent with a certificate.

    Parameters
    ----------
    agent_id : str
    client : ControlClient
        With the agent's certificate; it is closed with the agent.
    """

    def __init__(self, agent_id: str, client: ControlClient) -> None:
        self.agent_id = agent_id
        self.client = client

    def heartbeat(self) -> HeartbeatAnswer:
        """Say that the agent lives."""
        beat = Heartbeat(
            agent_id=self.agent_id, incarnation=_INCARNATION, agent_version=__version__, baseline_status="active"
        )
        return self.client.post("/endpoint/heartbeat", beat, HeartbeatAnswer)

    def upload(self, rows: Sequence[BaselineRow]) -> None:
        """Upload profiles that the server does not have yet.

        Raises
        ------
        SimulationError
            The server has not taken all of them as new.
        """
        results = []
        for body in pack_uploads(self.agent_id, list(rows)).bodies:
            request = Request("/endpoint/baseline/batch", body, headers={INCARNATION_HEADER: _INCARNATION})
            results.append(msgspec.json.decode(self.client.send(request).body, type=UpsertResult))
        accepted = sum(result.accepted for result in results)
        if accepted != len(rows):
            raise SimulationError(
                f"the server took {accepted} of {len(rows)} profiles of {self.agent_id}",
                rejected=[rejection.code for result in results for rejection in result.rejected],
            )

    def seeds(self) -> tuple[int, dict[str, FleetRow]]:
        """Return the current generation's number and its rows by process key, as every agent is sent them."""
        rows: dict[str, FleetRow] = {}
        cursor: str | None = ""
        while cursor is not None:
            query = {"limit": 512} | ({"cursor": cursor} if cursor else {})
            request = Request("/endpoint/baseline/fleet", query=query, max_bytes=MAX_PAGE_BYTES)
            page = decode_fleet_page(self.client.send(request).body)
            rows |= {row.process_key: row for row in page.fleet_baselines}
            cursor = page.next_cursor
        return page.generation, rows

    def close(self) -> None:
        """Give the connection back."""
        self.client.close()


class HttpFleet:
    """Agents and the operator of one server.

    Parameters
    ----------
    server : ServerAddress
    folder : Path
        Where the agents' keys and certificates are kept.
    """

    def __init__(self, server: ServerAddress, folder: Path) -> None:
        self._server = server
        self.folder = folder
        self.agents: dict[str, HttpAgent] = {}
        self._operator = ControlClient(server.administration, trusting_context(server.authority))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give all connections back."""
        for agent in self.agents.values():
            agent.close()
        self._operator.close()

    def enrol(self, agent_id: str, token: str) -> HttpAgent:
        """Enrol an agent with a token, by the agent's own code.

        Raises
        ------
        ServerRefusalError
            The token does not hold.
        """
        place = self.folder / agent_id
        enrol(
            place,
            self._server.agents,
            self._server.authority,
            lambda: token,
            agent_id=agent_id,
            incarnation=lambda: _INCARNATION,
        )
        identity = place / IDENTITY_NAME
        return self.join(agent_id, TlsFiles(identity, identity, place / AUTHORITY_NAME))

    def join(self, agent_id: str, files: TlsFiles) -> HttpAgent:
        """Add an agent that has its certificate."""
        agent = HttpAgent(agent_id, ControlClient(self._server.agents, files.context()))
        self.agents[agent_id] = agent
        return agent

    def operator(self, path: str, **body: Any) -> dict[str, Any]:
        """Make a request of the operator's and return the answer."""
        request = Request(
            path,
            msgspec.json.encode(body),
            headers={"Authorization": f"Bearer {self._server.token}"},
            deadline_seconds=_AGGREGATION_SECONDS,
            max_bytes=_REPORT_BYTES,
        )
        found: dict[str, Any] = msgspec.json.decode(self._operator.send(request).body)
        return found

    def look(self, path: str, **query: str | int) -> dict[str, Any]:
        """Return what the operator sees at a path."""
        headers = {"Authorization": f"Bearer {self._server.token}"}
        request = Request(path, headers=headers, query=query, max_bytes=_REPORT_BYTES)
        found: dict[str, Any] = msgspec.json.decode(self._operator.send(request).body)
        return found

    def aggregate(self) -> dict[str, Any]:
        """Have the server publish a generation and return its report; one that it makes by itself is waited for."""
        until = time.monotonic() + _AGGREGATION_SECONDS
        while True:
            try:
                return self.operator("/endpoint/baseline/aggregate")
            except ServerRefusalError as error:
                if error.reason != "aggregation_running" or time.monotonic() > until:
                    raise
            time.sleep(_RETRY_SECONDS)

    def quarantine(self, agent_id: str, reason: str) -> None:
        """Take an agent's votes."""
        self.operator("/endpoint/fleet/quarantine", agent_id=agent_id, reason=reason)

    def release(self, agent_id: str, reason: str) -> None:
        """Give an agent its votes back."""
        self.operator("/endpoint/fleet/release", agent_id=agent_id, reason=reason)

"""Sockets and TLS: who is on the other end, and for how long the server waits for it.

How a connection is spoken to is `eguard.server.peer_protocol`'s matter.

References
----------
docs/adr/0012-server-stack.md, on what of uvicorn this leans on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn

from eguard.errors import ConfigError
from eguard.server.door import Door
from eguard.server.handshakes import Handshakes
from eguard.server.peer_protocol import PeerProtocol
from eguard.settings.server import split_listen

#: Names of the two listeners, as a request's ``state["listener"]`` says them.
AGENTS: Final = "agents"
ADMINISTRATION: Final = "administration"

KEEP_ALIVE_SECONDS: Final = 75
DRAIN_SECONDS: Final = 4
_HANDSHAKE_SECONDS: Final = 15.0
_RELOAD_SECONDS: Final = 5.0
#: Enough for the event loop to close what was cut off.
_CUT_OFF_SECONDS: Final = 0.05
#: Connections beyond the limit that are held until they were told so.
_REFUSED_AT_ONCE: Final = 1024

_log = structlog.get_logger("eguard.server")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A server's certificate with its chain, its key, and the authority that agents' certificates come from."""

    certificate: Path
    key: Path
    authority: Path

    def context(self, *, asks_for_certificate: bool) -> ssl.SSLContext:
        """Return a context for one listener.

        Raises
        ------
        ConfigError
            A file is missing or is not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A ticket would let its holder in again without showing the certificate; every connection shows it anew, so
        # that an authority that was retired counts for nobody from the next connection on.
        context.num_tickets = 0
        try:
            context.load_cert_chain(self.certificate, self.key, password="")
            if asks_for_certificate:
                # Optional: a machine that enrols has none yet. Every other route of the listener demands it.
                context.verify_mode = ssl.CERT_OPTIONAL
                context.load_verify_locations(self.authority)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the server's TLS files in {self.certificate.parent} cannot be used: {error}",
                remedy="Make them: eguard server pki init",
            ) from error
        return context

    def changed_at(self) -> float:
        """Return when the certificate was last replaced, 0 while it is not there."""
        with contextlib.suppress(OSError):
            return max(self.certificate.stat().st_mtime, self.key.stat().st_mtime)
        return 0.0


class Listener(uvicorn.Server):
    """One port: bound before anything starts, drained at the end.

    Parameters
    ----------
    name : str
        `AGENTS` or `ADMINISTRATION`.
    app : ASGI application
        What answers.
    listen : str
        ADDRESS:PORT.
    context : ssl.SSLContext
        How it speaks TLS.
    deadline_seconds : float
        Within which a request has to arrive.
    max_connections : int
        Connections held at once; more are answered 503.

    Raises
    ------
    ConfigError
        The address cannot be bound.
    """

    def __init__(
        self,
        name: str,
        app: Any,
        listen: str,
        context: ssl.SSLContext,
        *,
        deadline_seconds: float = 15.0,
        max_connections: int = 12_000,
    ) -> None:
        self.name = name
        self._context = context
        self._socket = _bind(listen)
        self.is_listening = asyncio.Event()
        self._max_connections = max_connections
        self._handshakes: Handshakes | None = None
        own = {"deadline_seconds": deadline_seconds, "max_connections": max_connections}
        protocol = type("Protocol", (PeerProtocol,), own)
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._socket.getsockname()[1])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - signature
        """Listen, with TLS of our own."""
        await self.lifespan.startup()
        config, loop = self.config, asyncio.get_running_loop()
        state = {**self.lifespan.state, "listener": self.name}

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(
                config=config, server_state=self.server_state, app_state=state, _loop=loop
            )  # type: ignore[call-arg]
            return made

        self._handshakes = Handshakes(loop, self._context, timeout_seconds=_HANDSHAKE_SECONDS)
        room = self._max_connections + _REFUSED_AT_ONCE
        door = Door(self._handshakes, self._socket, protocol, max_connections=room)
        self.servers = [door]  # type: ignore[list-item]  # it closes like one
        self.started = True
        self.is_listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then cut off whoever has not read what was sent or not said goodbye."""
        await super().shutdown(sockets)
        if self._handshakes is not None:
            self._handshakes.cut_off()
        await asyncio.sleep(_CUT_OFF_SECONDS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs both listeners."""
        yield


def _bind(listen: str) -> socket.socket:
    host, port = split_listen(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"cannot listen at {listen}: {error.strerror or error}",
            remedy="Stop whatever uses the port, or set EGUARD_AGENT_LISTEN or EGUARD_ADMIN_LISTEN to another.",
            listen=listen,
        ) from error
    return bound


async def reload_certificates(files: TlsFiles, contexts: list[ssl.SSLContext]) -> None:
    """Take over a server certificate that was replaced: new connections get it, old ones go on."""
    seen = files.changed_at()
    while True:
        await asyncio.sleep(_RELOAD_SECONDS)
        now = files.changed_at()
        if now == seen:
            continue
        try:
            for context in contexts:
                context.load_cert_chain(files.certificate, files.key, password="")
                if context.verify_mode is not ssl.CERT_NONE:
                    context.load_verify_locations(files.authority)
        except (OSError, ssl.SSLError) as error:
            _log.error("new server certificate cannot be used", reason=str(error))
        else:
            seen = now
            _log.info("took over new server certificate")

"""Sockets and TLS: who is on the other end, and for how long the server waits for it.

What uvicorn does not do by itself is added to its protocol: the client's certificate is handed to the application, a
request has to arrive within a deadline (a connection that drips one byte a second would hold its place for ever), its
head has a largest size, and whatever is refused before the application sees it is refused in the one form.

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
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from eguard.errors import ConfigError
from eguard.server.errors import error_body, error_response
from eguard.settings.server import split_listen

#: Names of the two listeners, as a request's ``state["listener"]`` says them.
AGENTS: Final = "agents"
ADMINISTRATION: Final = "administration"

KEEP_ALIVE_SECONDS: Final = 75
DRAIN_SECONDS: Final = 4
_LAST_SECONDS: Final = 1.0
_HANDSHAKE_SECONDS: Final = 15.0
_RELOAD_SECONDS: Final = 5.0
_BACKLOG: Final = 4096
#: Largest request line with all header fields; the parser by itself collects a field for as long as it grows.
MAX_HEAD_BYTES: Final = 65_536
_CLOSE: Final = {"Connection": "close"}
_PHRASES: Final = {
    400: b"400 Bad Request",
    408: b"408 Request Timeout",
    431: b"431 Request Header Fields Too Large",
}

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


class PeerProtocol(HttpToolsProtocol):
    """HTTP/1.1 that knows its peer's certificate and does not wait for ever."""

    deadline_seconds: float = 15.0
    max_connections: int = 12_000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who connected."""
        self._deadline: asyncio.TimerHandle | None = None
        # How much of a head has come that is not complete; none once it is.
        self._head_bytes: int | None = 0
        self._is_head_too_large = False
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.app = _overloaded
        secured = transport.get_extra_info("ssl_object")
        certificate = secured.getpeercert(binary_form=True) if secured is not None else None
        self.app_state = {**self.app_state, "peer_certificate": certificate}
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline with the connection."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what arrived, as long as the head of a request does not outgrow its limit."""
        before = self._head_bytes
        super().data_received(data)
        if before is not None and self._head_bytes == before:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """Begin a request: its head and body have until the deadline."""
        super().on_message_begin()
        self._head_bytes = 0
        self._arm()

    def on_headers_complete(self) -> None:
        """Hand a request on, unless its head is too large."""
        self._head_bytes = None
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._is_head_too_large = True
            raise ValueError("the head is too large")  # ends the parser's work; `send_400_response` says why
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request's arrival; how long its answer takes is the application's matter."""
        self._disarm()
        super().on_message_complete()

    def shutdown(self) -> None:
        """End the connection once its answer is out; a request that is still arriving gets a second for the rest."""
        super().shutdown()
        if self._deadline is not None:
            self._arm(_LAST_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        if self._is_head_too_large:
            self._refuse_head()
        else:
            self._refuse(400, "bad_request", msg)

    def _refuse_head(self) -> None:
        self._refuse(431, "head_too_large", f"request line and header fields have more than {MAX_HEAD_BYTES} bytes")

    def _arm(self, seconds: float | None = None) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(self.deadline_seconds if seconds is None else seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self._refuse(408, "request_timeout", "the request did not arrive in time")
        else:
            self.transport.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        if self.transport.is_closing():
            return
        body = error_body(status, code, message)
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (_PHRASES[status], len(body)) + body)
        self.transport.close()


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = error_response(503, "busy", "the server holds as many connections as it can", headers=_CLOSE)
    await refusal(scope, receive, send)


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
        limits = {"deadline_seconds": deadline_seconds, "max_connections": max_connections}
        protocol = type("Protocol", (PeerProtocol,), limits)
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
        """Listen, with limits on handshakes that uvicorn has no setting for."""
        await self.lifespan.startup()
        config, loop = self.config, asyncio.get_running_loop()
        state = {**self.lifespan.state, "listener": self.name}

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(
                config=config, server_state=self.server_state, app_state=state, _loop=loop
            )  # type: ignore[call-arg]
            return made

        server = await loop.create_server(
            protocol,
            sock=self._socket,
            ssl=self._context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=1.0,
        )
        self.servers = [server]
        self.started = True
        self.is_listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs both listeners."""
        yield


def _bind(listen: str) -> socket.socket:
    host, port = split_listen(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's algorithm off on what is accepted: else the second segment of an
    # answer waits 40 ms for the client's delayed acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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

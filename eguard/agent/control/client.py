"""The agent's HTTP client: mutual TLS or nothing, every answer bounded in bytes and in time.

Nothing that a server does gets further than two errors: `ServerRefusalError` for an answer that says no in the
contract's form or by its status, `ServerUnavailableError` for everything else that is no usable answer. Redirects are
not followed, proxies of the environment are not used, nothing is decompressed.

The library below is httpcore2, the transport of httpx2: its network layer can be given a deadline for the whole request
(`eguard.agent.control.deadlines`), for which httpx2 itself has no place.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import urlencode

import httpcore2
import structlog
from msgspec import Struct

from eguard import __version__
from eguard.agent.control.answers import Answer, checked, decoded, read_capped, unavailable
from eguard.agent.control.credentials import Stamp, TlsFiles, server_address
from eguard.agent.control.deadlines import DeadlineBackend
from eguard.errors import ConfigError, ServerUnavailableError
from eguard.wire.bodies import MAX_CONTROL_BYTES, encode_body

BASE_PATH: Final = "/api/v1"
REQUEST_SECONDS: Final = 30.0
#: The agent has a handful of threads; a connection that idles longer than a heartbeat's interval is worth keeping.
_MAX_CONNECTIONS: Final = 8
_KEEP_SECONDS: Final = 75.0

_log = structlog.get_logger("eguard.agent")
_Body = TypeVar("_Body", bound=Struct)


@dataclass(slots=True, eq=False)
class _Channel:
    """Connections under one state of the certificates, and how many requests use them now."""

    pool: httpcore2.ConnectionPool
    stamp: Stamp = ()
    users: int = 0
    is_retired: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request below `BASE_PATH`; a body makes it a POST."""

    path: str
    body: bytes | None = None
    query: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline_seconds: float = REQUEST_SECONDS
    max_bytes: int = MAX_CONTROL_BYTES


class ControlClient:
    """Requests to one server; any thread may make them.

    Parameters
    ----------
    server : str
        ``https://NAME:PORT``.
    files : TlsFiles or SSLContext
        The agent's certificate and key, and the authority that signs the server's. They are read again when they
        change; requests under way end with the old ones. A context is for enrolment, when there is no certificate yet.

    Raises
    ------
    ConfigError
        The address is not https, or a file cannot be used.
    """

    def __init__(self, server: str, files: TlsFiles | ssl.SSLContext) -> None:
        self.server = server
        self._host, self._port, prefix = server_address(server)
        self._base = prefix + BASE_PATH
        self._files = files if isinstance(files, TlsFiles) else None
        self._backend = DeadlineBackend()
        self._lock = threading.Lock()
        self._refused_stamp: Stamp | None = None
        self._is_connected = False
        self._channel = self._open(files.context() if isinstance(files, TlsFiles) else files)

    @property
    def is_connected(self) -> bool:
        """Whether the latest request got an answer, whatever it said."""
        return self._is_connected

    def get(self, path: str, form: type[_Body], request: Request | None = None) -> _Body:
        """Return the body of an answer as a record of `form`; see `send`."""
        return decoded(self.send(request or Request(path)).body, form, self.server)

    def post(self, path: str, body: Struct, form: type[_Body]) -> _Body:
        """Send a record, and return the body of the answer as another; see `send`."""
        return decoded(self.send(Request(path, encode_body(body))).body, form, self.server)

    def send(self, request: Request) -> Answer:
        """Make a request and return the answer, which is one of success.

        Raises
        ------
        ServerRefusalError
            The server said no.
        ServerUnavailableError
            There is no answer in time, none that can be read, or one that says that the server is in trouble.
        """
        channel = self._enter()
        try:
            with self._backend.limit(request.deadline_seconds):
                answer = self._exchange(channel.pool, request)
        except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            self._is_connected = False
            raise unavailable(error, self.server) from error
        except RuntimeError as error:  # what the library says of a pool that `close` has closed
            raise ServerUnavailableError(f"{self.server}: the channel was closed", reason="closed") from error
        finally:
            self._leave(channel)
        self._note_answer(answer)
        return checked(answer, self.server)

    def abort(self) -> None:
        """End all requests under way, in whatever thread; later ones fail at once."""
        self._backend.abort()

    def close(self) -> None:
        """Give all connections back."""
        self._backend.abort()
        self._channel.pool.close()

    def _exchange(self, pool: httpcore2.ConnectionPool, request: Request) -> Answer:
        target = self._base + request.path + (f"?{urlencode(request.query)}" if request.query else "")
        host = f"[{self._host}]" if ":" in self._host else self._host
        headers = {
            "Host": f"{host}:{self._port}",
            "User-Agent": f"eguard-agent/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **request.headers,
        }
        if request.body is not None:
            headers |= {"Content-Length": str(len(request.body)), "Content-Type": "application/json"}
        url = httpcore2.URL(scheme=b"https", host=self._host.encode(), port=self._port, target=target.encode())
        sent = httpcore2.Request(
            b"GET" if request.body is None else b"POST",
            url,
            headers=list(headers.items()),
            content=request.body,
            # Waiting for a free connection is the one wait that the network layer does not see.
            extensions={"timeout": {"pool": request.deadline_seconds}},
        )
        response = pool.handle_request(sent)
        try:
            tls = response.extensions["network_stream"].get_extra_info("ssl_object")
            return read_capped(response, request.max_bytes, tls.version() if tls is not None else "")
        finally:
            response.close()

    def _note_answer(self, answer: Answer) -> None:
        if self._is_connected:
            return
        self._is_connected = True
        if self._files is not None:
            _log.info("mtls channel established", server=self.server, tls=answer.tls)

    def _enter(self) -> _Channel:
        """Return the channel for a request, a new one if the certificates have changed."""
        with self._lock:
            if self._files is not None and (stamp := self._files.stamp()) != self._channel.stamp:
                self._renew(self._files, stamp)
            self._channel.users += 1
            return self._channel

    def _leave(self, channel: _Channel) -> None:
        with self._lock:
            channel.users -= 1
            if channel.is_retired and channel.users == 0:
                channel.pool.close()

    def _renew(self, files: TlsFiles, stamp: Stamp) -> None:
        """Go on with the files as they are now, or with what was read before if they cannot be used."""
        if stamp == self._refused_stamp:
            return
        try:
            channel = self._open(files.context())
        except ConfigError as error:
            self._refused_stamp = stamp
            _log.error("changed certificates cannot be used", reason=error.message, remedy=error.remedy)
            return
        old, self._channel = self._channel, channel
        old.is_retired = True
        if old.users == 0:
            old.pool.close()
        self._is_connected = False
        _log.info("certificates were read again", certificate=str(files.certificate))

    def _open(self, context: ssl.SSLContext) -> _Channel:
        pool = httpcore2.ConnectionPool(
            ssl_context=context,
            max_connections=_MAX_CONNECTIONS,
            keepalive_expiry=_KEEP_SECONDS,
            network_backend=self._backend,
        )
        return _Channel(pool, self._files.stamp() if self._files is not None else ())

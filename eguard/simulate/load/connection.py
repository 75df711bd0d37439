"""A TLS connection of one simulated agent, in as little memory and time as Python's own means allow.

asyncio's TLS keeps two memory buffers and a buffer of 256 KiB a connection. Here OpenSSL reads and writes the socket
itself, the event loop only says when, and an agent that waits costs about 30 KiB, most of it OpenSSL's own. Agents that
stay have an SSL context each, made before the load begins, as a real agent makes its own when it starts: 25 KiB more,
and reading key and certificate is not part of connecting. For the many that only visit one context serves all: each has
its own certificate and key loaded into it in the moment in which its connection is made, and OpenSSL keeps with the
connection what was there then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eguard.simulate.load.answers import Answer, AnswerReader, MalformedAnswerError

#: What one TLS record holds.
_READ_BYTES: Final = 16_384
_CONNECT_SECONDS: Final = 60.0
#: Reset instead of an orderly end, as when a machine loses its network or its power.
_RESET: Final = struct.pack("ii", 1, 0)
# Linux: choose the port when connecting, so that two connections to different servers may share it.
_IP_BIND_ADDRESS_NO_PORT: Final = 24
_KINDS: Final[tuple[tuple[type[OSError], str], ...]] = (
    (TimeoutError, "timeout"),
    (ssl.SSLError, "tls"),
    (ConnectionRefusedError, "refused"),
    (ConnectionResetError, "reset"),
    (BrokenPipeError, "reset"),
)


class LoadFailureError(Exception):
    """A request that got no answer of success; `kind` is what it is counted as."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Target:
    """Where agents connect to, and from which of this machine's addresses if that matters."""

    host: str
    port: int
    sources: tuple[str, ...] = ()


class ClientTls:
    """SSL contexts of the agents: their own, made ahead, or one that becomes any agent's for a moment.

    OpenSSL takes certificates and keys only from files. Where the system has files in memory, they never see a disk.

    Parameters
    ----------
    authority : Path
        PEM file of the authority that the server's certificate has to come from.
    scratch : Path
        A file that is written anew for every connection where there are no files in memory.
    """

    def __init__(self, authority: Path, scratch: Path) -> None:
        self._authority = str(authority)
        self._shared = self._context()
        self._own: dict[int, ssl.SSLContext] = {}
        if sys.platform == "linux":
            self._file = os.memfd_create("agent")
            self._path = Path(f"/proc/self/fd/{self._file}")
        else:
            self._file = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            self._path = scratch

    def close(self) -> None:
        """Forget the last agent's key."""
        os.close(self._file)
        if sys.platform != "linux":
            self._path.unlink(missing_ok=True)

    def prepare(self, number: int, identity: bytes) -> None:
        """Make an agent's own context, with `identity`, its key and certificate."""
        context = self._own[number] = self._context()
        self._load(context, identity)

    def wrap(self, connected: socket.socket, host: str, number: int, identity: bytes) -> ssl.SSLSocket:
        """Return the socket as an agent's TLS client; `identity` counts where none was prepared."""
        context = self._own.get(number)
        if context is None:
            context = self._shared
            self._load(context, identity)
        return context.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._authority)

    def _load(self, context: ssl.SSLContext, identity: bytes) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, identity, 0)
        context.load_cert_chain(self._path)


class AgentConnection:
    """One connection: opened, asked any number of times, closed.

    Parameters
    ----------
    target : Target
    tls : ClientTls

    Notes
    -----
    Requests are made one after the other. Whatever goes wrong closes the connection.
    """

    __slots__ = ("_host", "_loop", "_port", "_reader", "_socket", "_sources", "_tls", "_waiter")

    def __init__(self, target: Target, tls: ClientTls) -> None:
        self._host, self._port, self._sources = target.host, target.port, target.sources
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._socket: ssl.SSLSocket | None = None
        self._waiter: asyncio.Future[Answer | None] | None = None
        self._reader = AnswerReader()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as this side knows."""
        return self._socket is not None

    async def open(self, identity: bytes, number: int) -> None:
        """Connect and shake hands as the agent with this key and certificate.

        Raises
        ------
        LoadFailureError
            ``connect_...`` or ``tls_...``.
        """
        plain = self._plain_socket(number)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._connect(plain)
                secured = self._tls.wrap(plain, self._host, number, identity)
                plain = secured
                await self._shake_hands(secured)
        except OSError as error:
            plain.close()
            raise _failure("connect", error) from error
        except BaseException:
            plain.close()
            raise
        self._socket = secured
        self._loop.add_reader(secured.fileno(), self._on_readable)

    async def ask(self, request: bytes, deadline_seconds: float) -> Answer:
        """Send a request and return its answer, whatever the status.

        Raises
        ------
        LoadFailureError
            There is none in time, none that can be read, or the connection is gone.
        RuntimeError
            Another request waits for its answer.
        """
        secured = self._socket
        if secured is None:
            raise LoadFailureError("closed")
        if self._waiter is not None:
            raise RuntimeError("one request after the other")
        waiter: asyncio.Future[Answer | None] = self._loop.create_future()
        self._waiter = waiter
        timer = self._loop.call_later(deadline_seconds, self._break_off, "timeout")
        try:
            await self._send(secured, request)
            answer = await waiter
        except OSError as error:
            self.close()
            raise _failure("request", error) from error
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()
            self._waiter = None
        if answer is None:
            raise LoadFailureError("closed")
        if answer.is_last:
            self.close()
        return answer

    def interrupt(self) -> None:
        """Make whoever waits for an answer give up."""
        self._break_off("interrupted")

    def close(self, *, is_abrupt: bool = False) -> None:
        """End the connection; abruptly: without a goodbye, as a machine that is switched off."""
        secured, self._socket = self._socket, None
        if secured is None:
            return
        self._loop.remove_reader(secured.fileno())
        self._loop.remove_writer(secured.fileno())
        with contextlib.suppress(OSError):  # the other end may have been quicker
            if is_abrupt:
                secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            else:
                secured.unwrap()
        secured.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _plain_socket(self, number: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        plain = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        plain.settimeout(0.0)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._sources:
            with contextlib.suppress(OSError):  # a courtesy of newer kernels
                plain.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            plain.bind((self._sources[number % len(self._sources)], 0))
        return plain

    async def _connect(self, plain: socket.socket) -> None:
        code = plain.connect_ex((self._host, self._port))
        if code not in {0, 115, 10035}:  # in progress, on Linux and on Windows
            raise OSError(code, os.strerror(code))
        if code:
            await self._ready(plain.fileno(), for_writing=True)
        code = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    async def _shake_hands(self, secured: ssl.SSLSocket) -> None:
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                await self._ready(secured.fileno(), for_writing=False)
            except ssl.SSLWantWriteError:
                await self._ready(secured.fileno(), for_writing=True)
            else:
                return

    async def _ready(self, file: int, *, for_writing: bool) -> None:
        """Wait until a socket can be read or written."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        add, remove = (
            (self._loop.add_writer, self._loop.remove_writer)
            if for_writing
            else (self._loop.add_reader, self._loop.remove_reader)
        )
        add(file, _settle, waiter)
        try:
            await waiter
        finally:
            remove(file)

    async def _send(self, secured: ssl.SSLSocket, data: bytes) -> None:
        while data:
            try:
                data = data[secured.send(data) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                await self._ready(secured.fileno(), for_writing=True)

    def _on_readable(self) -> None:
        secured = self._socket
        if secured is None:
            return
        try:
            while self._socket is not None:
                data = secured.read(_READ_BYTES)
                if not data:
                    self.close()
                    return
                answer = self._reader.feed(data)
                if answer is not None:
                    self._take(answer)
                if len(data) < _READ_BYTES and not secured.pending():
                    return  # most likely that was all; if not, the loop says so
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except MalformedAnswerError:
            self._break_off("malformed")
        except OSError:
            self.close()

    def _take(self, answer: Answer) -> None:
        if self._waiter is None or self._waiter.done():
            self.close()  # nobody asked
        else:
            self._waiter.set_result(answer)

    def _break_off(self, kind: str) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(LoadFailureError(kind))
        self.close()


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _failure(stage: str, error: OSError) -> LoadFailureError:
    """Return what a failure of the network is counted as."""
    for kind, name in _KINDS:
        if isinstance(error, kind):
            return LoadFailureError(f"{stage}_{name}")
    text = os.strerror(error.errno) if error.errno else "failed"
    return LoadFailureError(f"{stage}_{text.replace(' ', '_').lower()}")

"""Sockets that obey a deadline for a whole request, and that another thread can end.

An HTTP library's time-outs bound one read. A server that sends a byte a second keeps every read short and the request
open for ever. Here each connect, handshake, read and write of a request gets what is left of the request's own time.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import httpcore2

#: For whoever forgets to set a limit.
DEFAULT_SECONDS: Final = 30.0


class DeadlineBackend(httpcore2.NetworkBackend):
    """Opens connections whose every operation ends at the deadline of the calling thread.

    Attributes
    ----------
    is_aborted : bool
        Whether `abort` was called; nothing is opened any more.
    """

    def __init__(self) -> None:
        self.is_aborted = False
        self._inner = httpcore2.SyncBackend()
        self._until = threading.local()
        self._open: set[_DeadlineStream] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Give the calling thread `seconds` for all network operations inside."""
        self._until.at = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._until.at

    def left(self) -> float:
        """Return the seconds that the calling thread has left.

        Raises
        ------
        ReadTimeout
            None.
        """
        until = getattr(self._until, "at", None)
        left = DEFAULT_SECONDS if until is None else until - time.monotonic()
        if left <= 0.0 or self.is_aborted:
            raise httpcore2.ReadTimeout("the time for this request is over")
        return left

    def abort(self) -> None:
        """End what is under way in any thread, and let nothing begin."""
        self.is_aborted = True
        with self._lock:
            streams = list(self._open)
        for stream in streams:
            stream.shut_down()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect within the deadline."""
        stream = self._inner.connect_tcp(host, port, self.left(), local_address, socket_options)
        return self.adopt(stream)

    def adopt(self, stream: httpcore2.NetworkStream) -> httpcore2.NetworkStream:
        """Return the stream with the deadline put on it."""
        wrapped = _DeadlineStream(stream, self)
        with self._lock:
            self._open.add(wrapped)
        return wrapped

    def forget(self, stream: _DeadlineStream) -> None:
        """Note that a stream was closed or has become another."""
        with self._lock:
            self._open.discard(stream)


class _DeadlineStream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream, backend: DeadlineBackend) -> None:
        self._inner = inner
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline rules
        return self._inner.read(max_bytes, self._backend.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline rules
        self._inner.write(buffer, self._backend.left())

    def close(self) -> None:
        self._backend.forget(self)
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline rules
    ) -> httpcore2.NetworkStream:
        # The plain stream stays known until the handshake is over: `abort` ends that as well.
        try:
            secured = self._inner.start_tls(ssl_context, server_hostname, self._backend.left())
        finally:
            self._backend.forget(self)
        return self._backend.adopt(secured)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def shut_down(self) -> None:
        """Wake whoever reads: the connection is over."""
        found = self._inner.get_extra_info("socket")
        with contextlib.suppress(OSError):
            found.shutdown(socket.SHUT_RDWR)

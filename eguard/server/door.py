"""The socket of a listener: lets connections in, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

import structlog

from eguard.server.handshakes import Handshakes
from eguard.server.tls_connection import TlsConnection

#: What the kernel keeps of those that are not let in yet, as far as it is allowed to (`net.core.somaxconn`).
BACKLOG: Final = 4096
#: Connections let in before the event loop looks at everything else again.
AT_ONCE: Final = 64
#: Wait after the system refused another connection, for want of file descriptors or memory.
PAUSE_SECONDS: Final = 1.0

_log = structlog.get_logger("eguard.server")


class Door:
    """A listening socket; uvicorn handles it like one of the event loop's servers.

    Parameters
    ----------
    handshakes : Handshakes
        Of the listener.
    bound : socket.socket
        Where it listens; closed with it.
    make_protocol : callable
        Makes the protocol of a connection.
    max_connections : int
        Beyond so many, those that are refused included, nobody is let in at all.
    """

    def __init__(
        self,
        handshakes: Handshakes,
        bound: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        *,
        max_connections: int,
    ) -> None:
        self._handshakes = handshakes
        self._socket = bound
        self._make_protocol = make_protocol
        self._max_connections = max_connections
        self._is_open = True
        bound.settimeout(0.0)
        bound.listen(BACKLOG)
        handshakes.loop.add_reader(bound, self._let_in)

    def close(self) -> None:
        """Let nobody in any more."""
        if self._is_open:
            self._is_open = False
            self._handshakes.loop.remove_reader(self._socket)
            self._socket.close()

    async def wait_closed(self) -> None:
        """Return at once: whoever is still in is cut off by the listener."""

    def _let_in(self) -> None:
        for _ in range(AT_ONCE):
            if len(self._handshakes.connections) >= self._max_connections:
                self._pause("there are too many")
                return
            try:
                accepted, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error.strerror or str(error))
                return
            accepted.settimeout(0.0)
            with contextlib.suppress(OSError):
                # Else the second segment of an answer waits 40 ms for the client's delayed acknowledgement.
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._handshakes.connections.add(TlsConnection(self._handshakes, accepted, self._make_protocol))

    def _pause(self, why: str) -> None:
        _log.warning("connections wait outside", reason=why)
        self._handshakes.loop.remove_reader(self._socket)
        self._handshakes.loop.call_later(PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._is_open:
            self._handshakes.loop.add_reader(self._socket, self._let_in)

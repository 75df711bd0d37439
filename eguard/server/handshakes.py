"""Handshakes of a listener: they take turns, so that a fleet that reconnects at once holds up nobody who is in.

A handshake costs about a millisecond of the one processor that answers everybody. A thousand of them that arrive
together would keep a kill switch waiting for a second; so no more than a few milliseconds of them are done before the
event loop looks at everything else again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Final, Protocol

#: How long handshakes go on before everything else has its turn.
SLICE_SECONDS: Final = 0.005


class Connection(Protocol):
    """A connection whose handshake is not over."""

    expires_at: float
    queued_at: float

    def advance(self) -> None:
        """Go on with the handshake."""

    def abort(self) -> None:
        """Cut it."""


class Handshakes:
    """What connections of a listener share, and the order in which their handshakes go on.

    Parameters
    ----------
    loop : AbstractEventLoop
        Theirs.
    context : ssl.SSLContext
        The listener's.
    timeout_seconds : float
        How long a client may take for its handshake, its time in the queue not counted.

    Attributes
    ----------
    connections : set of Connection
        Every one that is not lost yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext, *, timeout_seconds: float) -> None:
        self.loop = loop
        self.context = context
        self.timeout_seconds = timeout_seconds
        self.connections: set[Connection] = set()
        self._first: deque[Connection] = deque()
        self._second: deque[Connection] = deque()
        self._is_scheduled = False

    @property
    def waiting(self) -> int:
        """How many handshakes could go on now."""
        return len(self._first) + len(self._second)

    def left(self, connection: Connection) -> None:
        """Note that a connection is no more."""
        self.connections.discard(connection)

    def cut_off(self) -> None:
        """Abort every connection that is left."""
        for connection in list(self.connections):
            connection.abort()

    def enter(self, connection: Connection, *, is_first: bool) -> None:
        """Put a connection into the queue that has received something; those that began before go first."""
        if connection.queued_at:
            return
        connection.queued_at = self.loop.time()
        (self._first if is_first else self._second).append(connection)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self.loop.call_soon(self._take_turns)

    def _take_turns(self) -> None:
        self._is_scheduled = False
        now = self.loop.time()
        until = now + SLICE_SECONDS
        while (self._second or self._first) and now < until:
            connection = (self._second or self._first).popleft()
            connection.expires_at += now - connection.queued_at
            connection.queued_at = 0.0
            connection.advance()
            now = self.loop.time()
        if self._second or self._first:
            self._schedule()

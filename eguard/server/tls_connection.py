"""TLS connections of the event loop, for ten thousand of them that mostly wait.

The event loop's own TLS keeps 256 KiB for each connection to read into, and encrypts by way of two buffers in memory
that never shrink. Here OpenSSL reads and writes the socket itself, and gives its buffers back when nothing is to do.

References
----------
docs/adr/0012-server-stack.md, with what was measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from eguard.server.handshakes import Handshakes

#: What is read from one connection before others have their turn.
READ_BYTES: Final = 65_536
#: Answers that wait for a client to read: above the one the application is told to wait, below the other to go on.
HIGH_WATER_BYTES, LOW_WATER_BYTES = 65_536, 16_384
#: What is read and thrown away from a client that goes on sending after it was refused.
MAX_DISCARDED_BYTES: Final = 262_144
#: How long the other side has to take the next part of an answer, or to say goodbye, once a connection is to end.
GOODBYE_SECONDS: Final = 1.0

_RECORD_BYTES: Final = 16_384


class Stage(enum.IntEnum):
    """Where a connection is in its life."""

    HANDSHAKE = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


class TlsConnection(asyncio.Transport):
    """One connection, as the transport of the protocol above.

    Parameters
    ----------
    handshakes : Handshakes
        Of the listener; has its certificate and limits.
    accepted : socket.socket
        Not blocking; from now on this connection's.
    make_protocol : callable
        Makes the protocol above, once the handshake is over.
    """

    __slots__ = (
        "_above",
        "_backlog",
        "_discarded_bytes",
        "_file",
        "_handshakes",
        "_is_blocked",
        "_is_paused",
        "_is_writing_paused",
        "_loop",
        "_make_protocol",
        "_socket",
        "_stage",
        "_timer",
        "_tls",
        "expires_at",
        "queued_at",
    )

    def __init__(
        self, handshakes: Handshakes, accepted: socket.socket, make_protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        super().__init__()
        self._handshakes = handshakes
        self._loop = handshakes.loop
        self._socket = accepted
        # The loop is told numbers, not sockets: where it does not know one it makes an error message of it, and to
        # describe a socket takes two calls of the system.
        self._file = accepted.fileno()
        self._make_protocol = make_protocol
        self._above: asyncio.Protocol | None = None
        self._tls: ssl.SSLSocket | None = None
        self._stage = Stage.HANDSHAKE
        self._backlog: bytearray | None = None
        self._is_blocked = False
        self._is_paused = False
        self._is_writing_paused = False
        self._discarded_bytes = 0
        #: Until when the handshake has to be over, on the loop's clock; the queue moves it.
        self.expires_at = self._loop.time() + handshakes.timeout_seconds
        #: When it began to wait for its turn, 0 while it does not.
        self.queued_at = 0.0
        self._timer: asyncio.TimerHandle | None = self._loop.call_at(self.expires_at, self._expire)
        self._loop.add_reader(self._file, self._await_turn)

    # The handshake.

    def advance(self) -> None:
        """Go on with the handshake; to be called when it is this connection's turn."""
        if self._stage is not Stage.HANDSHAKE:
            return
        try:
            if self._tls is None:
                self._socket = self._tls = self._handshakes.context.wrap_socket(
                    self._socket, server_side=True, do_handshake_on_connect=False
                )
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._loop.add_reader(self._file, self._await_turn)
        except ssl.SSLWantWriteError:
            self._loop.add_writer(self._file, self._await_turn)
        except (OSError, ValueError) as error:
            self._lose(error)
        else:
            self._open()

    def _await_turn(self) -> None:
        self._loop.remove_reader(self._file)
        self._loop.remove_writer(self._file)
        self._handshakes.enter(self, is_first=self._tls is None)

    def _expire(self) -> None:
        """Give a handshake up that the client does not go on with; waiting for its turn is not the client's fault."""
        now = self._loop.time()
        if self.queued_at or now < self.expires_at:
            self._timer = self._loop.call_at(max(self.expires_at, now + GOODBYE_SECONDS), self._expire)
        else:
            self.abort()

    def _open(self) -> None:
        self._stage = Stage.OPEN
        self._cancel_timer()
        self._above = self._make_protocol()
        self._above.connection_made(self)
        self._loop.add_reader(self._file, self._read)
        self._read()  # what came together with the handshake's end

    # What the protocol above calls.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``socket``, ``ssl_object`` or ``sslcontext``."""
        known = {"socket": self._socket, "ssl_object": self._tls, "sslcontext": self._handshakes.context}
        return known.get(name, default)

    def is_closing(self) -> bool:
        """Tell whether it is closed, or about to be."""
        return self._stage >= Stage.CLOSING

    def is_reading(self) -> bool:
        """Tell whether what arrives is taken in."""
        return self._stage is Stage.OPEN and not self._is_paused

    def pause_reading(self) -> None:
        """Leave what arrives with the kernel."""
        if self.is_reading():
            self._is_paused = True
            self._loop.remove_reader(self._file)

    def resume_reading(self) -> None:
        """Take in what arrives again."""
        if self._is_paused and self._stage is Stage.OPEN:
            self._is_paused = False
            self._loop.add_reader(self._file, self._read)
            self._loop.call_soon(self._read)  # OpenSSL may hold something already

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; what the client does not take yet is kept.

        A short text waits until whoever runs now has come to an end: the head of an answer goes out with its body, in
        one record and one packet.
        """
        if self._stage is not Stage.OPEN or not data:
            return
        if self._backlog is None:
            self._backlog = bytearray(data)
            self._loop.call_soon(self._write_some)
        else:
            self._backlog += data
        if len(self._backlog) >= _RECORD_BYTES:
            self._write_some()
        if self._backlog is not None and len(self._backlog) > HIGH_WATER_BYTES and not self._is_writing_paused:
            self._is_writing_paused = True
            if self._above is not None:
                self._above.pause_writing()

    def get_write_buffer_size(self) -> int:
        """Return how much waits for the client to read, in bytes."""
        return len(self._backlog or b"")

    def close(self) -> None:
        """Send what is left, say goodbye, and wait a moment for the other side to."""
        if self._stage is Stage.HANDSHAKE:
            self.abort()
        elif self._stage is Stage.OPEN:
            self._stage = Stage.CLOSING
            if self._is_paused:
                self._loop.add_reader(self._file, self._read)
            self._give_up_later()
            if self._backlog is None:
                self._say_goodbye()

    def abort(self) -> None:
        """Cut the connection; what was not sent is lost."""
        self._lose(None)

    # Reading and writing.

    def _read(self) -> None:
        if self._tls is None or self._stage not in {Stage.OPEN, Stage.CLOSING} or self._is_reading_paused():
            return
        pieces: list[bytes] = []
        is_over, error = False, None
        try:
            while sum(map(len, pieces)) < READ_BYTES and not is_over:
                piece = self._tls.recv(_RECORD_BYTES)
                is_over = not piece
                pieces.append(piece)
                if len(piece) < _RECORD_BYTES and not self._tls.pending():
                    break  # most likely that was all; if not, the loop says so
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as raised:
            error = raised
        else:
            if self._tls.pending():
                self._loop.call_soon(self._read)
        self._take(b"".join(pieces) if len(pieces) > 1 else pieces[0] if pieces else b"")
        if error is not None:
            self._lose(error)
        elif is_over:
            self._hear_goodbye()

    def _is_reading_paused(self) -> bool:
        return self._is_paused and self._stage is Stage.OPEN

    def _take(self, data: bytes) -> None:
        if self._stage is Stage.OPEN and data and self._above is not None:
            self._above.data_received(data)
        elif self._stage is Stage.CLOSING:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > MAX_DISCARDED_BYTES:
                self._lose(None)

    def _hear_goodbye(self) -> None:
        if self._stage is Stage.OPEN and self._above is not None:
            self._above.eof_received()
            self.close()
        if self._backlog is None or self._stage is Stage.CLOSED:
            self._lose(None)
        else:
            self._loop.remove_reader(self._file)

    def _write_some(self) -> None:
        backlog, tls = self._backlog, self._tls
        if backlog is None or tls is None or self._is_blocked:
            return
        sent = 0
        try:
            with memoryview(backlog) as view:
                while sent < len(view):
                    sent += tls.send(view[sent : sent + _RECORD_BYTES])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            del backlog[:sent]
            self._is_blocked = True
            self._loop.add_writer(self._file, self._write_on)
        except OSError as error:
            self._lose(error)
            return
        else:
            self._backlog = None
            if self._stage is Stage.CLOSING:
                self._say_goodbye()
        if self._is_writing_paused and self.get_write_buffer_size() <= LOW_WATER_BYTES:
            self._is_writing_paused = False
            if self._above is not None:
                self._above.resume_writing()

    def _write_on(self) -> None:
        """Go on, as the client took something."""
        self._loop.remove_writer(self._file)
        self._is_blocked = False
        self._write_some()

    # The end.

    def _say_goodbye(self) -> None:
        """Say it, and read on until it is answered: a socket that is closed before would take the last answer along."""
        if self._tls is None:
            return
        try:
            self._tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except (OSError, ValueError):
            pass
        self._lose(None)

    def _give_up_later(self) -> None:
        self._timer = self._loop.call_later(GOODBYE_SECONDS, self._give_up, self.get_write_buffer_size())

    def _give_up(self, unread_bytes: int) -> None:
        if 0 < self.get_write_buffer_size() < unread_bytes:
            self._give_up_later()
        else:
            self.abort()

    def _lose(self, error: Exception | None) -> None:
        """Give everything back, once."""
        if self._stage is Stage.CLOSED:
            return
        self._stage = Stage.CLOSED
        self._cancel_timer()
        self._loop.remove_reader(self._file)
        self._loop.remove_writer(self._file)
        with contextlib.suppress(OSError):
            self._socket.close()
        self._backlog = None
        self._handshakes.left(self)
        if self._above is not None:
            self._loop.call_soon(self._above.connection_lost, error)
            self._above = None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""TLS on a socket of the event loop, for ten thousand connections that mostly wait.

The event loop's own TLS keeps 256 KiB for each connection to read into, and does whatever handshakes have arrived
before it does anything else. Here all connections of a listener read into one buffer, and handshakes take turns with
everything else (`eguard.server.handshakes`).

References
----------
docs/adr/0012-server-stack.md, with what was measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from eguard.server.handshakes import Handshakes

#: Plaintext of one record, and what is handed to OpenSSL at once: its memory buffers grow to the largest piece that
#: they ever held, and never shrink.
PIECE_BYTES: Final = 4_096
#: What is taken from a client whose handshake waits for its turn; the rest waits with the kernel.
MAX_EARLY_BYTES: Final = 16_384
#: What is read and thrown away from a client that goes on sending after it was refused.
MAX_DISCARDED_BYTES: Final = 262_144
#: How long the other side has to say goodbye, in seconds.
GOODBYE_SECONDS: Final = 1.0

_SEND_BYTES: Final = 65_536


class Stage(enum.IntEnum):
    """Where a connection is in its life."""

    HANDSHAKE = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


class TlsConnection(asyncio.BufferedProtocol, asyncio.Transport):
    """One connection: the protocol of a socket below, the transport of a protocol above.

    Parameters
    ----------
    handshakes : Handshakes
        Of the listener; has its certificate, buffer and limits.
    make_protocol : callable
        Makes the protocol above, once the handshake is over.
    """

    __slots__ = (
        "_above",
        "_below",
        "_discarded_bytes",
        "_handshakes",
        "_incoming",
        "_is_paused",
        "_make_protocol",
        "_outgoing",
        "_stage",
        "_timer",
        "_tls",
        "expires_at",
        "queued_at",
    )

    def __init__(self, handshakes: Handshakes, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        super().__init__()
        self._handshakes = handshakes
        self._make_protocol = make_protocol
        self._above: asyncio.Protocol | None = None
        self._below: asyncio.Transport | None = None
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._stage = Stage.HANDSHAKE
        self._is_paused = False
        self._discarded_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        #: Until when the handshake has to be over, on the loop's clock; the queue moves it.
        self.expires_at = 0.0
        #: When it began to wait for its turn, 0 while it does not.
        self.queued_at = 0.0

    # What the socket below calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client's first words."""
        self._below = cast("asyncio.Transport", transport)
        if not self._handshakes.arrived(self):
            self._below.abort()
            return
        self._timer = self._handshakes.loop.call_at(self.expires_at, self._expire)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - signature
        """Lend the listener's buffer: `buffer_updated` empties it before anybody else can ask for it."""
        return self._handshakes.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what arrived."""
        for start in range(0, nbytes, PIECE_BYTES):
            self._incoming.write(self._handshakes.buffer[start : min(nbytes, start + PIECE_BYTES)])
            if self._stage is Stage.HANDSHAKE:
                self._handshakes.enter(self, is_first=self._tls is None)
                if self._incoming.pending > MAX_EARLY_BYTES:
                    self.pause_reading()
            elif self._stage is Stage.OPEN:
                self._read()
            elif self._stage is Stage.CLOSING:
                self._await_goodbye()

    def eof_received(self) -> None:
        """Hand on what is left; the socket closes itself."""
        if self._stage is Stage.OPEN and self._above is not None:
            self._is_paused = False
            self._read()
            self._above.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back."""
        self._stage = Stage.CLOSED
        self._cancel_timer()
        self._handshakes.left(self)
        above, self._above = self._above, None
        self._tls = None
        self._below = None
        if above is not None:
            above.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the client does not read."""
        if self._above is not None:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it reads again."""
        if self._above is not None:
            self._above.resume_writing()

    # What the listener's queue calls.

    def advance(self) -> None:
        """Go on with the handshake; to be called when it is this connection's turn."""
        if self._stage is not Stage.HANDSHAKE:
            return
        if self._tls is None:
            self._tls = self._handshakes.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            self.resume_reading()
        except ssl.SSLError:
            self._send()  # why it is refused
            self._close_below()
        else:
            self._open()

    # What the protocol above calls.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``ssl_object``, ``sslcontext`` or what the socket below knows."""
        if name == "ssl_object":
            return self._tls
        if name == "sslcontext":
            return self._handshakes.context
        return default if self._below is None else self._below.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Tell whether it is closed, or about to be."""
        return self._stage >= Stage.CLOSING or self._below is None or self._below.is_closing()

    def is_reading(self) -> bool:
        """Tell whether what arrives is taken in."""
        return not self._is_paused and not self.is_closing()

    def pause_reading(self) -> None:
        """Leave what arrives with the kernel."""
        if not self._is_paused:
            self._is_paused = True
            if self._below is not None and not self._below.is_closing():
                self._below.pause_reading()

    def resume_reading(self) -> None:
        """Take in what arrives again."""
        if self._is_paused:
            self._is_paused = False
            if self._below is not None and not self._below.is_closing():
                self._below.resume_reading()
                self._handshakes.loop.call_soon(self._read)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if self._stage is not Stage.OPEN or self._tls is None:
            return
        view = memoryview(data)
        sealed = bytearray()
        for start in range(0, len(view), PIECE_BYTES):
            self._tls.write(view[start : start + PIECE_BYTES])
            sealed += self._outgoing.read()
            if len(sealed) >= _SEND_BYTES:
                self._write_below(bytes(sealed))
                sealed.clear()
        self._write_below(bytes(sealed))

    def get_write_buffer_size(self) -> int:
        """Return how much waits for the client to read, in bytes."""
        return 0 if self._below is None else self._below.get_write_buffer_size()

    def close(self) -> None:
        """Send what is left, say goodbye, and wait a moment for the other side to."""
        if self._stage >= Stage.CLOSING or self._tls is None:
            return
        self._stage = Stage.CLOSING
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._send()
        self._cancel_timer()
        self._timer = self._handshakes.loop.call_later(GOODBYE_SECONDS, self.abort)
        if self._is_paused:
            self.resume_reading()
        self._await_goodbye()

    def abort(self) -> None:
        """Cut the connection; what was not sent is lost."""
        self._stage = max(self._stage, Stage.CLOSING)
        if self._below is not None:
            self._below.abort()

    def _open(self) -> None:
        self._stage = Stage.OPEN
        self._cancel_timer()
        self._handshakes.opened(self)
        self._send()
        self.resume_reading()
        self._above = self._make_protocol()
        self._above.connection_made(self)
        self._read()

    def _read(self) -> None:
        if self._stage is not Stage.OPEN or self._is_paused or self._tls is None or self._above is None:
            return
        pieces, is_over = self._received(self._tls)
        if pieces:
            self._above.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if is_over:
            self._above.eof_received()
            self.close()
        elif self._outgoing.pending:
            self._send()

    def _received(self, tls: ssl.SSLObject) -> tuple[list[bytes], bool]:
        """Return what can be read now, and whether that was the last of it."""
        pieces: list[bytes] = []
        try:
            while piece := tls.read(PIECE_BYTES):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            return pieces, False
        except ssl.SSLError:
            self._send()
            self._close_below()
            return [], False
        return pieces, True

    def _await_goodbye(self) -> None:
        """Read on until the other side has said goodbye: a socket closed before would take the last answer with it."""
        if self._stage is not Stage.CLOSING or self._tls is None:
            return
        pieces, is_over = self._received(self._tls)
        self._discarded_bytes += sum(map(len, pieces))
        if is_over or self._discarded_bytes > MAX_DISCARDED_BYTES:
            self._close_below()

    def _send(self) -> None:
        self._write_below(self._outgoing.read())

    def _write_below(self, data: bytes) -> None:
        if data and self._below is not None:
            self._below.write(data)

    def _close_below(self) -> None:
        if self._below is not None:
            self._below.close()

    def _expire(self) -> None:
        """Give a handshake up that the client does not go on with; waiting for its turn is not the client's fault."""
        loop = self._handshakes.loop
        self._timer = None
        if self._stage is not Stage.HANDSHAKE:
            return
        if self.queued_at or loop.time() < self.expires_at:
            self._timer = loop.call_at(max(self.expires_at, loop.time() + GOODBYE_SECONDS), self._expire)
        elif self._below is not None:
            self._below.abort()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

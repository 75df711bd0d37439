"""Messages to a syslog receiver, in the form of RFC 5424, over UDP, TCP or TLS.

Over TCP and TLS each message is preceded by its length (RFC 6587, RFC 5425). Syslog has no acknowledgement: what a
stream can tell is that the receiver took the connection's orderly end, so every message has a connection of its own
that is seen to its end. UDP tells nothing; a datagram may be lost without anybody noticing.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from eguard.errors import ConfigError, NotificationError
from eguard.server.sinks.message import Message

CONNECT_SECONDS: Final = 5.0
#: How long the receiver may take to see the end of a connection.
END_SECONDS: Final = 2.0
#: What receivers take: RFC 5426 asks for 2048 bytes over UDP, RFC 5425 for 8192 over TLS.
MAX_DATAGRAM_BYTES: Final = 2048
MAX_FRAME_BYTES: Final = 8192

_DEFAULT_PORTS: Final = {"udp": 514, "tcp": 601, "tls": 6514}
#: Facility local0, and the severities of RFC 5424: critical, warning, informational.
_FACILITY: Final = 16
_SEVERITIES: Final = {"critical": 2, "warning": 4, "info": 6}
_MAX_MSGID: Final = 32
_MAX_HOSTNAME: Final = 255
_BOM: Final = "\ufeff"
_WRITE: Final = "Set EGUARD_NOTIFY_SYSLOG to udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT."
_UNREACHED: Final = "Check that the receiver of EGUARD_NOTIFY_SYSLOG runs and can be reached from this machine."
_UNTRUSTED: Final = "Set EGUARD_NOTIFY_CA to the authority of the receiver's certificate, and check the name."


class SyslogSink:
    """A syslog receiver.

    Parameters
    ----------
    url : str
        ``udp://HOST:PORT``, ``tcp://...`` or ``tls://...``; without a port the usual one.
    authority : SSLContext, optional
        Trusts the receiver's certificate; the system's authorities by default.

    Raises
    ------
    ConfigError
        The address is none of these.
    """

    name = "syslog"

    def __init__(self, url: str, *, authority: ssl.SSLContext | None = None) -> None:
        self._transport, self._host, self._port = _split(url)
        self._authority = authority
        self._hostname = _printable(socket.gethostname(), _MAX_HOSTNAME)
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.address = f"{self._transport}://{shown}:{self._port}"

    def send(self, message: Message, now: float) -> None:  # noqa: ARG002 - the message bears the time of its event
        """Send a message; see `Sink.send`."""
        try:
            if self._transport == "udp":
                self._send_datagram(self.record(message, MAX_DATAGRAM_BYTES))
            else:
                record = self.record(message, MAX_FRAME_BYTES)
                self._send_frame(str(len(record)).encode() + b" " + record)
        except ssl.SSLError as error:
            reason = error.reason or "TLS failed"
            raise NotificationError(f"{self.address}: {reason}", remedy=_UNTRUSTED) from error
        except OSError as error:
            words = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise NotificationError(f"{self.address}: {words}", remedy=_UNREACHED) from error

    def record(self, message: Message, max_bytes: int) -> bytes:
        """Return a message in the form of RFC 5424; what does not fit is cut off at the end of a character."""
        priority = _FACILITY * 8 + _SEVERITIES[message.severity]
        moment = datetime.fromtimestamp(message.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        kind = _printable(message.kind, _MAX_MSGID)
        # The enterprise number that is reserved for documents; nobody has to register for an identifier of their own.
        facts = f'[eguard@32473 id="{message.notification_id}" kind="{kind}" severity="{message.severity}"]'
        detail = json.dumps(dict(message.detail), separators=(",", ":"), sort_keys=True)
        title = "".join(character if character.isprintable() else " " for character in message.title)
        header = f"<{priority}>1 {moment} {self._hostname} eguard {os.getpid()} {kind} {facts} "
        whole = f"{header}{_BOM}{title} {detail}".encode()
        return whole[:max_bytes].decode(errors="ignore").encode()

    def _send_datagram(self, record: bytes) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as opened:
            opened.settimeout(CONNECT_SECONDS)
            opened.connect(address)
            opened.sendall(record)

    def _send_frame(self, frame: bytes) -> None:
        with socket.create_connection((self._host, self._port), CONNECT_SECONDS) as plain:
            if self._transport == "tcp":
                plain.sendall(frame)
                plain.shutdown(socket.SHUT_WR)
                _await_end(plain)
                return
            authority = self._authority or ssl.create_default_context()
            with authority.wrap_socket(plain, server_hostname=self._host) as secured:
                secured.sendall(frame)
                secured.settimeout(END_SECONDS)
                # The receiver may close at once, or leave the connection to us; an error it has to say comes here.
                with contextlib.suppress(TimeoutError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError):
                    secured.unwrap().close()


def _await_end(opened: socket.socket) -> None:
    """Wait until the receiver has seen the end; a connection that it broke off raises."""
    opened.settimeout(END_SECONDS)
    with contextlib.suppress(TimeoutError):  # one that keeps connections has read it all the same
        while opened.recv(4096):
            pass


def _split(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{url!r} is no syslog receiver", remedy=_WRITE) from None
    has_more = parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username
    if parts.scheme not in _DEFAULT_PORTS or not host or has_more:
        raise ConfigError(f"{url!r} is no syslog receiver", remedy=_WRITE)
    return parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]


def _printable(text: str, limit: int) -> str:
    """Return text that the header's fields may hold: printable ASCII without blanks, and not empty."""
    kept = "".join(each if "!" <= each <= "~" and each not in '"\\]' else "_" for each in text)
    return kept[:limit] or "-"

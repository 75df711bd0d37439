"""Checks of the way to the server as it is now: name, connection, handshake, each with a cause of its own."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from eguard.operations.check import Finding, State, failed, ok, skipped, warning
from eguard.operations.control_plane import SKEW_SECONDS
from eguard.operations.examination import Examination
from eguard.operations.refused_handshake import judge_alert, judge_hang_up

#: The whole way to a server that swallows packets is to be looked at within five seconds.
TIMEOUT_SECONDS: Final = 3.0
#: How long a refusal of the certificate is waited for. Servers that send session tickets end the wait at once.
_REFUSAL_SECONDS: Final = 0.5
_DEFAULT_PORT: Final = 443
_ANSWER_BYTES: Final = 4096
_DNS: Final = "Correct EGUARD_SERVER, or the resolver: getent hosts {host}; cat /etc/resolv.conf"
#: OpenSSL's codes for a server certificate that does not verify (x509_vfy.h), and what helps.
_REMEDIES: Final = {
    9: "See the check clock; if this machine's clock is right, the server's certificate is not valid yet.",
    10: "Renew the server's certificate; see the check clock first.",
    18: "Put the server's authority into EGUARD_TLS_CA.",
    19: "Put the server's authority into EGUARD_TLS_CA.",
    20: "Put the authority that signed the server's certificate into EGUARD_TLS_CA.",
    62: "Write into EGUARD_SERVER a name that the server's certificate has, or issue it a certificate for this one.",
    64: "Write into EGUARD_SERVER a name that the server's certificate has, or issue it a certificate for this one.",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens."""

    host: str
    port: int


def address_of(server: str) -> Address | None:
    """Return host and port of an address, None if it has none.

    Examples
    --------
    >>> address_of("https://[2001:db8::1]:8443/"), address_of("https://eguard.example")
    (Address(host='2001:db8::1', port=8443), Address(host='eguard.example', port=443))
    >>> address_of("eguard.example") is None
    True
    """
    try:
        parts = urlsplit(server)
        return Address(parts.hostname, parts.port or _DEFAULT_PORT) if parts.hostname else None
    except ValueError:
        return None


def check_server_name(examination: Examination) -> Finding:
    """Check that the server's name resolves to addresses."""
    server = examination.settings.server
    if not server:
        return skipped(examination.alone)
    address = address_of(server)
    if address is None:
        return failed(f"EGUARD_SERVER={server} has no host, or a bad port", "Write EGUARD_SERVER=https://NAME:PORT.")
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return failed(
            f"{address.host} does not resolve: {getattr(error, 'strerror', None) or error}",
            _DNS.format(host=address.host),
        )
    return ok(f"{address.host} is {', '.join(dict.fromkeys(str(entry[4][0]) for entry in found))}")


def check_server_connect(examination: Examination) -> Finding:
    """Check that something listens at the server's port and answers this machine."""
    address = _wanted(examination, "server_name")
    if address is None:
        return _nothing_to_try(examination, "the server's name does not resolve")
    try:
        with socket.create_connection((address.host, address.port), TIMEOUT_SECONDS) as connection:
            peer = connection.getpeername()
    except OSError as error:
        return _refusal(address, error)
    return ok(f"{peer[0]} port {peer[1]} accepts connections")


def _wanted(examination: Examination, needs: str) -> Address | None:
    server = examination.settings.server
    return address_of(server) if server and examination.passed(needs) else None


def _nothing_to_try(examination: Examination, reason: str) -> Finding:
    return skipped(reason if examination.settings.server else examination.alone)


def _refusal(address: Address, error: OSError) -> Finding:
    where = f"{address.host} port {address.port}"
    if isinstance(error, ConnectionRefusedError):
        return failed(f"nothing listens at {where}", "Start the server, or correct the port in EGUARD_SERVER.")
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return failed(
            f"{where} did not answer within {TIMEOUT_SECONDS:.0f} s",
            "Have a firewall on the way pass this port; on an isolated host, see `eguard nac status`.",
        )
    if error.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH}:
        return failed(
            f"there is no route to {where}: {error.strerror}", "Look at the network of this machine: ip route."
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        return failed(
            f"this machine's packet filter forbids connections to {where}",
            "See `eguard nac status` and `sudo nft list ruleset`.",
        )
    return failed(f"no connection to {where}: {error.strerror or error}", _DNS.format(host=address.host))


def check_server_tls(examination: Examination) -> Finding:
    """Check that a handshake with the client's certificate succeeds, and the server answers over it."""
    address = _wanted(examination, "server_connect")
    if address is None or not examination.passed("server_name"):
        return _nothing_to_try(examination, "there is no connection to the server")
    if not examination.settings.server.lower().startswith("https://"):
        return skipped("EGUARD_SERVER is no https address; see the check transport")
    try:
        context = _context(examination)
    except PermissionError:
        raise  # what is closed to this user says nothing about the agent
    except (OSError, ssl.SSLError) as error:
        return failed(
            f"the TLS files cannot be used: {error}", "See the checks tls_files, tls_certificate, tls_authority."
        )
    return _shake_hands(examination, address, context)


def _shake_hands(examination: Examination, address: Address, context: ssl.SSLContext) -> Finding:
    try:
        with (
            socket.create_connection((address.host, address.port), TIMEOUT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as secured,
        ):
            answer = _ask(secured, address)
            if answer == b"":
                return judge_hang_up(examination, address.host, address.port)
            return _judge_answer(examination, secured, answer or b"")
    except ssl.SSLCertVerificationError as error:
        return failed(
            f"the server's certificate does not verify: {error.verify_message}",
            _REMEDIES.get(error.verify_code, "Compare EGUARD_TLS_CA with the authority that issued it."),
        )
    except (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError):
        return judge_hang_up(examination, address.host, address.port)
    except ssl.SSLError as error:
        return judge_alert(error)
    except OSError as error:
        return _refusal(address, error)


def _context(examination: Examination) -> ssl.SSLContext:
    settings = examination.settings
    authority = None if settings.tls_ca is None else str(settings.tls_ca)
    context = ssl.create_default_context(cafile=authority)
    if settings.tls_cert is not None and settings.tls_key is not None:
        # Without an answer for a passphrase OpenSSL would ask on the terminal.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=b"")
    return context


def _ask(secured: ssl.SSLSocket, address: Address) -> bytes | None:
    """Ask for the server's health, and return the beginning of its answer; None if it lets us wait.

    With TLS 1.3 a server refuses a client's certificate only after the client's handshake is done. What it says then is
    read before anything is sent: data that meets a closed connection would wipe it out.
    """
    if select.select([secured], [], [], _REFUSAL_SECONDS)[0]:
        secured.settimeout(0.0)
        with contextlib.suppress(ssl.SSLWantReadError):  # session tickets are no answer
            secured.recv(1)
        secured.settimeout(TIMEOUT_SECONDS)
    request = f"GET /healthz HTTP/1.1\r\nHost: {address.host}\r\nConnection: close\r\n\r\n"
    secured.sendall(request.encode("ascii", "replace"))
    try:
        return secured.recv(_ANSWER_BYTES)
    except TimeoutError:
        return None


def _judge_answer(examination: Examination, secured: ssl.SSLSocket, answer: bytes) -> Finding:
    words = f"{secured.version()}, {(secured.cipher() or ('no cipher',))[0]}"
    if not answer.startswith(b"HTTP/"):
        return warning(
            f"{words}; the server sent no answer within {TIMEOUT_SECONDS:.0f} s",
            "See the server's log; is it an eGuard server that listens at this port?",
        )
    head, *lines = answer.split(b"\r\n\r\n")[0].decode("ascii", "replace").split("\r\n")
    dates = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("date:")]
    skew = _skew_seconds(dates[0], examination.clock.now()) if dates else 0.0
    if abs(skew) > SKEW_SECONDS:
        return warning(
            f"{words}, {head}; this machine's clock is {abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} the "
            "server's",
            "Synchronise both clocks; see the checks clock and clock_sync.",
        )
    is_mutual = "with" if examination.settings.tls_cert is not None else "without"
    return Finding(State.OK, f"{words}, {is_mutual} the agent's certificate; the server answers {head}")


def _skew_seconds(date: str, now: float) -> float:
    try:
        return now - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0

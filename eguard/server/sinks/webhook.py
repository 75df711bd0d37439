"""Messages as HTTP requests, signed, so that the receiver knows who speaks.

The signature is HMAC-SHA256 over the timestamp, a dot and the body: a copy that somebody replays later carries an old
timestamp, which cannot be changed without the secret. Redirects are not followed, because what is behind them was not
configured, and proxies of the environment are not used.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import socket
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from eguard import __version__
from eguard.errors import ConfigError, NotificationError
from eguard.server.sinks.message import Message

SIGNATURE_HEADER: Final = "X-Eguard-Signature"
TIMESTAMP_HEADER: Final = "X-Eguard-Timestamp"
ID_HEADER: Final = "X-Eguard-Notification-Id"
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
#: A receiver's Retry-After counts up to this.
MAX_RETRY_SECONDS: Final = 3600.0

#: Answers that are about the message and not about the receiver's state or its configuration.
_REFUSED_MESSAGE: Final = frozenset({400, 413, 415, 422})
_REMEDIES: Final = {
    401: "The receiver wants another secret: set EGUARD_NOTIFY_WEBHOOK_SECRET to the one it knows.",
    403: "The receiver wants another secret: set EGUARD_NOTIFY_WEBHOOK_SECRET to the one it knows.",
    404: "Check the path of EGUARD_NOTIFY_WEBHOOK_URL.",
    405: "The receiver has to take POST; check the path of EGUARD_NOTIFY_WEBHOOK_URL.",
}
_UNREACHED: Final = "Check that the receiver of EGUARD_NOTIFY_WEBHOOK_URL runs and can be reached from this machine."
_UNTRUSTED: Final = (
    "Set EGUARD_NOTIFY_CA to the authority of the receiver's certificate, and check the name in the URL."
)
_WRITE_URL: Final = "Set EGUARD_NOTIFY_WEBHOOK_URL to https://NAME/PATH."


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of the signature's header.

    Examples
    --------
    >>> sign("secret", "1772000000", b"{}")[:27]
    'sha256=7ad75c898da39bc604f2'
    """
    code = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={code.hexdigest()}"


class WebhookSink:
    """A receiver of HTTP requests.

    Parameters
    ----------
    url : str
        https, or http to this machine itself.
    secret : str
        Messages are signed with it; empty: they are not.
    authority : SSLContext, optional
        Trusts the receiver's certificate; the system's authorities by default.
    allows_http : bool
        Whether http may leave this machine.

    Raises
    ------
    ConfigError
        The URL cannot be used.
    """

    name = "webhook"

    def __init__(
        self, url: str, secret: str = "", *, authority: ssl.SSLContext | None = None, allows_http: bool = False
    ) -> None:
        self._url, self._secret = url, secret
        self.address = _checked_address(url, allows_http=allows_http)
        self._authority = authority
        self._server = socket.gethostname()

    def send(self, message: Message, now: float) -> None:
        """Post a message; see `Sink.send`."""
        body = self.body(message)
        timestamp = str(int(now))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"eguard/{__version__}",
            ID_HEADER: message.notification_id,
            TIMESTAMP_HEADER: timestamp,
        }
        if self._secret:
            headers[SIGNATURE_HEADER] = sign(self._secret, timestamp, body)
        try:
            with (
                httpx2.Client(
                    verify=self._authority or ssl.create_default_context(),
                    timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
                    follow_redirects=False,
                    trust_env=False,
                ) as client,
                # What the receiver says beyond its status is not read: it may be without end.
                client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                self._check(response)
        except httpx2.HTTPError as error:
            # Without the cause: its request holds the URL, whose path may be the receiver's secret.
            raise NotificationError(f"{self.address}: {_words(error)}", remedy=_remedy(error)) from None

    def body(self, message: Message) -> bytes:
        """Return the JSON that is posted."""
        fields: dict[str, Any] = {
            "id": message.notification_id,
            "kind": message.kind,
            "severity": message.severity,
            "title": message.title,
            "detail": dict(message.detail),
            "at": message.created_at,
            "server": self._server,
        }
        return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()

    def _check(self, response: httpx2.Response) -> None:
        status = response.status_code
        if response.is_success:
            return
        if response.is_redirect:
            raise NotificationError(
                f"{self.address} answered {status}: redirects are not followed",
                remedy="Set EGUARD_NOTIFY_WEBHOOK_URL to where the receiver really is.",
            )
        raise NotificationError(
            f"{self.address} answered {status}",
            remedy=_REMEDIES.get(status, "The receiver's own log says why."),
            is_about_message=status in _REFUSED_MESSAGE,
            retry_seconds=_retry_after(response.headers.get("Retry-After", "")),
        )


def _checked_address(url: str, *, allows_http: bool) -> str:
    """Return scheme, name and port of a URL that may be posted to."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError("the webhook's URL is none", remedy=_WRITE_URL) from None
    if parts.scheme not in {"https", "http"} or not host or not url.isascii() or not url.isprintable():
        raise ConfigError("the webhook's URL is not https", remedy=_WRITE_URL)
    if parts.scheme == "http" and not allows_http and not is_loopback(host):
        raise ConfigError(
            f"the webhook http://{host} would send in clear what operators are told",
            remedy=f"{_WRITE_URL} Where the network is trusted, EGUARD_NOTIFY_WEBHOOK_ALLOW_HTTP=true allows http.",
        )
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + (f":{port}" if port else "")


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is this machine itself.

    Examples
    --------
    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "localhost.example", "127.0.0.1.example")]
    [True, True, True, False, False]
    """
    octets = host.split(".")
    is_v4 = len(octets) == 4 and all(octet.isdigit() for octet in octets) and octets[0] == "127"
    return host in {"localhost", "::1"} or is_v4


def _retry_after(text: str) -> float | None:
    """Return the seconds of a Retry-After; one that names a date is left to the back-off."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return min(seconds, MAX_RETRY_SECONDS) if math.isfinite(seconds) and seconds >= 0.0 else None


def _words(error: httpx2.HTTPError) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__


def _remedy(error: httpx2.HTTPError) -> str:
    return _UNTRUSTED if "CERTIFICATE" in str(error).upper() else _UNREACHED

"""Why a TLS handshake failed on the server's side: by its alert, or, where it just hung up, by trying without us."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from typing import Final

from eguard.operations.certificates import why_refused
from eguard.operations.check import Finding, failed
from eguard.operations.enrolment import ENROL
from eguard.operations.examination import Examination

_TIMEOUT_SECONDS: Final = 3.0
_AGAIN: Final = "sudo eguard agent enroll --force ... with a new token."
#: What the words of OpenSSL, in an alert or in a verdict of our own, call for.
_REMEDIES: Final = {
    "unknown ca": f"It is of another authority than the server trusts. Enrol this machine with this server: {_AGAIN}",
    "issuer": f"It is of another authority than the server trusts. Enrol this machine with this server: {_AGAIN}",
    "expired": f"See the check clock; if the date is right, enrol this machine again: {_AGAIN}",
    "revoked": f"Enrol this machine again: {_AGAIN}",
    "purpose": "Issue a certificate for client authentication (extended key usage clientAuth).",
    "required": f"Enrol this machine: {ENROL}",
}


def judge_alert(error: ssl.SSLError) -> Finding:
    """Return what the server's alert means."""
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "alert" in reason and ("certificate" in reason or "unknown ca" in reason or "access denied" in reason):
        return _refused(reason.rpartition("alert ")[2])
    if "wrong version number" in reason or "http request" in reason or "record layer failure" in reason:
        return failed("the server does not speak TLS at this port", "Correct the port in EGUARD_SERVER.")
    return failed(f"the TLS handshake failed: {reason}", "See the server's log, and compare the TLS versions of both.")


def judge_hang_up(examination: Examination, host: str, port: int) -> Finding:
    """Return why the server closed the connection without a word: some refuse a certificate so."""
    settings = examination.settings
    if settings.tls_cert is not None and _answers_without_us(settings.tls_ca, host, port):
        return _refused(_own_verdict(examination))
    return failed(
        "the server closed the connection during the handshake or right after it; some refuse a certificate so",
        "See the server's log and the checks tls_*; is anything between the two that ends TLS?",
    )


def _refused(reason: str) -> Finding:
    reason = reason or "it hangs up where it answers somebody without one"
    known = next((remedy for word, remedy in _REMEDIES.items() if word in reason), None)
    return failed(
        f"the server refuses this agent's certificate: {reason}",
        known
        or "See the checks tls_certificate and tls_authority; if both are fine, the server trusts another authority: "
        f"enrol this agent with it, {_AGAIN}",
    )


def _answers_without_us(authority: Path | None, host: str, port: int) -> bool:
    """Return whether the server answers somebody who shows no certificate."""
    context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=context)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse().read(1)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _own_verdict(examination: Examination) -> str:
    """Return what OpenSSL says of our certificate under the server's authority."""
    settings = examination.settings
    if settings.tls_cert is None or settings.tls_key is None or settings.tls_ca is None:
        return ""
    try:
        return why_refused(settings.tls_cert, settings.tls_key, settings.tls_ca)
    except (OSError, ssl.SSLError):
        return ""

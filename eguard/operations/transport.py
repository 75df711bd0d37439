"""Checks of the way to the server as it is set up here: mutual TLS, and the files that it needs."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path
from typing import Final

from cryptography import x509

from eguard.agent.control.enrol import RENEWAL_FRACTION
from eguard.errors import ConfigError
from eguard.operations.certificates import (
    begins_in_days,
    date_of,
    days_left,
    names_of,
    public_key_in,
    public_key_of,
    read_certificates,
    why_refused,
)
from eguard.operations.check import Finding, State, failed, ok, skipped, warning
from eguard.operations.enrolment import ENROL
from eguard.operations.examination import Examination
from eguard.operations.status_look import duration
from eguard.wire.agent_name import certificate_name

_EXPIRY_WARNING_DAYS: Final = 30
#: The agent looks every hour whether its certificate is to be renewed.
_RENEWAL_GRACE_SECONDS: Final = 4 * 3600.0
_OTHERS: Final = 0o077
_RENEW: Final = "Issue a new certificate for this agent and replace the files; the agent reads them anew."
_ENROL_AGAIN: Final = "Enrol this machine again: sudo eguard agent enroll --force ... with a new token."
_NO_FILES: Final = "no certificate is set"


def check_transport(examination: Examination) -> Finding:
    """Check that the server is reached by mutual TLS and in no other way."""
    settings = examination.settings
    if not settings.server:
        return skipped(examination.alone)
    scheme, separator, _ = settings.server.partition("://")
    if separator and scheme.lower() == "http":
        return failed(
            f"non-mTLS transport: EGUARD_SERVER={settings.server} is not encrypted",
            f"Write EGUARD_SERVER=https://NAME:PORT, and enrol this machine: {ENROL}",
        )
    if not separator or scheme.lower() != "https":
        return failed(
            f"EGUARD_SERVER={settings.server} is no https address", "Write it as EGUARD_SERVER=https://NAME:PORT."
        )
    missing = [variable for variable, path in _files(examination).items() if path is None]
    if missing:
        return failed(
            f"non-mTLS transport: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set, and there is "
            "no enrolment to take the place",
            f"Enrol this machine: {ENROL}. Or set EGUARD_TLS_CERT, EGUARD_TLS_KEY and EGUARD_TLS_CA.",
        )
    return ok(f"mutual TLS to {settings.server}")


def _files(examination: Examination) -> dict[str, Path | None]:
    """Return the three files: what is set, else what the enrolment wrote."""
    settings = examination.settings
    return {
        "EGUARD_TLS_CERT": settings.tls_cert,
        "EGUARD_TLS_KEY": settings.tls_key,
        "EGUARD_TLS_CA": settings.tls_ca,
    }


def check_tls_files(examination: Examination) -> Finding:
    """Check that the files exist, this user can read them, and nobody else can read the key."""
    named = {variable: path for variable, path in _files(examination).items() if path is not None}
    if not named:
        return skipped(_NO_FILES)
    for variable, path in named.items():
        try:
            with path.open("rb") as stream:
                found = os.fstat(stream.fileno())
        except FileNotFoundError:
            return failed(f"{variable}={path} does not exist", f"Put the file there, or correct {variable}.")
        except PermissionError:
            raise  # what is closed to this user says nothing about the agent
        except OSError as error:
            return failed(f"{variable}={path} cannot be read: {error.strerror}", f"Correct {variable}.")
        if not stat.S_ISREG(found.st_mode):
            return failed(f"{variable}={path} is no regular file", f"Correct {variable}.")
        if variable == "EGUARD_TLS_KEY" and stat.S_IMODE(found.st_mode) & _OTHERS:
            return failed(
                f"the private key {path} has mode {stat.S_IMODE(found.st_mode):04o}: others can reach it",
                f"sudo chmod 600 {path}; if somebody else could log in here, issue a new certificate, too.",
            )
    return ok(", ".join(dict.fromkeys(map(str, named.values()))))


def check_tls_certificate(examination: Examination) -> Finding:
    """Check that the agent's certificate is valid today, belongs to its key, and names this agent."""
    settings = examination.settings
    if settings.tls_cert is None:
        return skipped(_NO_FILES)
    try:
        certificate = read_certificates(settings.tls_cert)[0]
        is_pair = settings.tls_key is None or public_key_of(settings.tls_key) == public_key_in(certificate)
    except ConfigError as error:
        return failed(error.message, error.remedy)
    if not is_pair:
        return failed(
            f"the key {settings.tls_key} does not belong to the certificate {settings.tls_cert}",
            "Put the pair that was issued together in place: the agent's own certificate comes first in its file.",
        )
    names = names_of(certificate)
    what = f"the certificate of {', '.join(names) or 'nobody'}"
    is_own = settings.tls_cert.parent == settings.tls_folder
    dated = judge_dates(certificate, examination.clock.now(), what, _ENROL_AGAIN if is_own else _RENEW)
    if is_own and (dated is None or dated.state is State.WARNING):
        dated = _judge_renewal(examination, certificate, what)
    if dated is not None:
        return dated
    if certificate_name(settings.agent_id)[1] not in names:
        return warning(
            f"the certificate names {', '.join(names) or 'nobody'}, and this agent is {settings.agent_id}: a server "
            "refuses what it sends under that name",
            f"Set EGUARD_AGENT_ID to the certificate's name, or issue a certificate for {settings.agent_id}.",
        )
    until = date_of(certificate.not_valid_after_utc)
    left = days_left(certificate, examination.clock.now())
    return ok(f"for {', '.join(names)}, until {until} ({left:.0f} days)")


def _judge_renewal(examination: Examination, certificate: x509.Certificate, what: str) -> Finding | None:
    """Return why an enrolment's certificate is not renewed though it is time; the agent does that by itself."""
    begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    overdue = examination.clock.now() - (begins + RENEWAL_FRACTION * (ends - begins))
    if overdue <= 0:
        return None
    status = examination.status
    words = (
        f"{what} expires in {days_left(certificate, examination.clock.now()):.1f} days, and its renewal has been due "
        f"for {duration(overdue)}"
    )
    error = status.duty("certificate renewal").last_error
    if error:
        return warning(f"{words}; it fails: {error}", "See the checks server_tls and server_identity.")
    if not status.is_running:
        return warning(f"{words}; {status.idle}", "Start the agent: it renews the certificate by itself.")
    if overdue > _RENEWAL_GRACE_SECONDS:
        return warning(words, f"See `certificate renewal` in the agent's log. {_ENROL_AGAIN}")
    return None


def judge_dates(certificate: x509.Certificate, now_unix: float, what: str, renew: str = _RENEW) -> Finding | None:
    """Return what is wrong with a certificate's dates, None if nothing; `renew` says how to get the next one."""
    until = date_of(certificate.not_valid_after_utc)
    left = days_left(certificate, now_unix)
    if left <= 0:
        return failed(
            f"{what} expired {-left:.1f} days ago, on {until}", f"{renew} If that date is not past, see clock."
        )
    wait = begins_in_days(certificate, now_unix)
    if wait > 0:
        return failed(
            f"{what} is not yet valid: it begins in {wait:.1f} days, on {date_of(certificate.not_valid_before_utc)}",
            "See the check clock: this machine's clock, or that of the issuer, is wrong. Else wait.",
        )
    if left < _EXPIRY_WARNING_DAYS:
        return warning(f"{what} expires in {left:.1f} days, on {until}", renew)
    return None


def check_tls_authority(examination: Examination) -> Finding:
    """Check that the authority is valid today, and that the agent's certificate verifies against it."""
    settings = examination.settings
    if settings.tls_ca is None:
        return skipped(_NO_FILES)
    try:
        authorities = read_certificates(settings.tls_ca)
    except ConfigError as error:
        return failed(error.message, error.remedy)
    now = examination.clock.now()
    dated = [judge_dates(each, now, f"the authority {each.subject.rfc4514_string()}") for each in authorities]
    # One that has expired before one that will.
    wrong = sorted(filter(None, dated), key=lambda finding: finding.state is not State.FAILED)
    return wrong[0] if wrong else _verify(examination, ", ".join(each.subject.rfc4514_string() for each in authorities))


def _verify(examination: Examination, names: str) -> Finding:
    settings = examination.settings
    if settings.tls_ca is None or settings.tls_cert is None or settings.tls_key is None:
        return ok(f"{names}; there is no certificate of this agent to check against it")
    if not examination.passed("tls_certificate"):
        return ok(f"{names}; the agent's certificate was not checked against it, see tls_certificate")
    try:
        refusal = why_refused(settings.tls_cert, settings.tls_key, settings.tls_ca)
    except (OSError, ssl.SSLError) as error:
        return failed(f"OpenSSL cannot use the files: {error}", "Convert them to PEM, with a key of 2048 bits or more.")
    if refusal:
        return failed(
            f"a server that trusts {settings.tls_ca} refuses {settings.tls_cert}: {refusal}",
            "Issue a certificate for client authentication (extended key usage clientAuth)."
            if "purpose" in refusal
            else "Put the authority that issued the certificate into EGUARD_TLS_CA, and intermediate certificates "
            "behind the agent's own into EGUARD_TLS_CERT.",
        )
    return ok(f"{names}; the agent's certificate verifies against it")

"""Check of a server's own keys and certificates, on the machine that keeps them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from eguard.errors import ConfigError
from eguard.operations.certificates import (
    begins_in_days,
    date_of,
    days_left,
    names_of,
    public_key_in,
    public_key_of,
    read_certificates,
)
from eguard.operations.check import Finding, failed, ok, skipped, warning
from eguard.operations.examination import Examination
from eguard.server.pki.folder import PkiFolder

_OTHERS: Final = 0o077
_WARN_DAYS: Final = 30.0
#: A new authority has to reach every agent by its renewal, twice over: 90 days each.
_AUTHORITY_WARN_DAYS: Final = 180.0
_RENEW: Final = "eguard server pki rotate (agents go on trusting it; the running server takes it over within seconds)"
_ROTATE: Final = "Begin a new authority while the old one holds: eguard server pki rotate --authority"


def check_server_certificate(examination: Examination) -> Finding:
    """Check that a server's keys are closed to others, and that its certificates hold and belong together."""
    settings = examination.server_settings
    state = settings.server_state_path
    pki = PkiFolder(state / "pki", settings.pki_passphrase.get_secret_value())
    # Not `exists`: what is closed to this user says nothing, and has to be told from what is not there.
    if "pki" not in (os.listdir(state) if state.is_dir() else ()):  # noqa: PTH208 - names only
        return skipped(f"there is no {pki.path}: this machine keeps no server (EGUARD_SERVER_STATE_PATH)")
    missing = [
        path
        for path in (pki.authority_file, pki.trust_file, pki.agents_trust_file, pki.server_file)
        if not path.exists()
    ]
    if missing:
        return failed(
            f"there is no {missing[0]}", "Put the folder back from the backup, or begin: eguard server pki init"
        )
    opened = [path for path in _keys(state, pki) if stat.S_IMODE(path.stat().st_mode) & _OTHERS]
    if opened:
        return failed(
            f"others can read the private key {opened[0]}",
            f"sudo chmod 600 {opened[0]}; if somebody else could log in here, replace it.",
        )
    return _judge(pki, examination.clock.now())


def _keys(state: Path, pki: PkiFolder) -> list[Path]:
    return [pki.authority_file, pki.server_file, *sorted((state / "keys").glob("*.pem"))]


def _judge(pki: PkiFolder, now: float) -> Finding:
    try:
        present = pki.authority()
        authority, trusted = present.certificate, read_certificates(pki.trust_file)
        trusted_for_agents = read_certificates(pki.agents_trust_file)
        certificate = read_certificates(pki.server_file)[0]
        is_pair = public_key_of(pki.server_file) == public_key_in(certificate)
    except ConfigError as error:
        return failed(error.message, error.remedy)
    if not is_pair:
        return failed(f"key and certificate in {pki.server_file} do not belong together", f"Replace both: {_RENEW}")
    if not any(_is_issued_by(certificate, each) for each in trusted):
        return failed(
            f"no authority in {pki.trust_file} signed the server's certificate: agents refuse it",
            f"Issue it anew: {_RENEW}",
        )
    if present.agents_certificate not in trusted_for_agents:
        return failed(
            f"the authority is not in {pki.agents_trust_file}: the server refuses the agents that it lets in",
            "Put the folder back from the backup.",
        )
    return _judge_dates(certificate, authority, now)


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _judge_dates(certificate: x509.Certificate, authority: x509.Certificate, now: float) -> Finding:
    left, rest = days_left(certificate, now), days_left(authority, now)
    names = ", ".join(names_of(certificate))
    until = date_of(certificate.not_valid_after_utc)
    if left <= 0:
        return failed(f"the server's certificate for {names} expired {-left:.1f} days ago", f"Issue it anew: {_RENEW}")
    if begins_in_days(certificate, now) > 0:
        return failed(
            f"the server's certificate for {names} is not valid before {date_of(certificate.not_valid_before_utc)}",
            "See the check clock.",
        )
    if rest <= 0:
        return failed(f"the authority expired {-rest:.1f} days ago: every agent has to be enrolled again", _ROTATE)
    if rest < _AUTHORITY_WARN_DAYS:
        return warning(
            f"the authority expires in {rest:.0f} days, and agents have to learn the next one first", _ROTATE
        )
    if left < _WARN_DAYS:
        return warning(f"the server's certificate for {names} expires in {left:.1f} days", f"Issue it anew: {_RENEW}")
    return ok(f"for {names}, until {until} ({left:.0f} days); the authority holds for {rest:.0f} days")

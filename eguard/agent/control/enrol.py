"""Becoming an agent: a key that never leaves the machine, a request for a certificate, a token, an answer."""

from __future__ import annotations

import platform
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from eguard.agent.control.client import ControlClient
from eguard.agent.control.credentials import TlsFiles, server_address, trusting_context
from eguard.agent.control.enrolment_files import Enrolment, is_valid, keep_enrolment, read_enrolment
from eguard.clock import Clock, SystemClock
from eguard.errors import ConfigError, ServerUnavailableError
from eguard.wire.agent_name import certificate_name
from eguard.wire.control import EnrolmentAnswer, EnrolmentRequest, RenewalRequest

#: A certificate is renewed once so much of its life has passed.
RENEWAL_FRACTION: Final = 2.0 / 3.0
#: With so little of its life left, somebody has to look why it was not renewed.
EXPIRES_SOON_FRACTION: Final = 0.1
_MAX_COMMON_NAME: Final = 64

_log = structlog.get_logger("eguard.agent")


def enrol(
    folder: Path,
    server: str,
    authority: Path,
    token: Callable[[], str],
    *,
    agent_id: str,
    incarnation: Callable[[], str],
    force: bool = False,
    clock: Clock | None = None,
) -> tuple[Enrolment, bool]:
    """Enrol this machine and keep what it got; an enrolment that is there already is left alone.

    Parameters
    ----------
    folder : Path
        Where the enrolment is kept.
    server : str
        ``https://NAME:PORT`` of the agents' listener.
    authority : Path
        The authority that signs the server's certificate, handed out with the token.
    token : callable
        Returns the enrolment token; called only if a request is made.
    agent_id : str
        Name of this endpoint in the fleet.
    incarnation : callable
        Returns the name of this life of the state folder; called only if a request is made.
    force : bool
        Replace an enrolment under another name or at another server.
    clock : Clock, optional

    Returns
    -------
    (Enrolment, bool)
        The enrolment, and whether it is a new one.

    Raises
    ------
    ConfigError
        The address is not https, the authority's file cannot be used, or there is another valid enrolment.
    ServerRefusalError
        The token is not valid, or the name is taken.
    ServerUnavailableError
        There was no usable answer. The same command may be repeated.
    """
    clock = clock or SystemClock()
    server_address(server)
    if not force and (present := _present(folder, server, agent_id, clock.now())) is not None:
        return present, False
    key = ec.generate_private_key(ec.SECP256R1())
    request = EnrolmentRequest(
        token=token(),
        agent_id=agent_id,
        csr_pem=_signing_request(agent_id, key),
        incarnation=incarnation(),
        hostname=socket.gethostname()[:255],
        os_type=platform.system().lower(),
    )
    client = ControlClient(server, trusting_context(authority))
    try:
        answer = client.post("/endpoint/enroll", request, EnrolmentAnswer)
    finally:
        client.close()
    _check_answer(answer, agent_id, key)
    enrolment = Enrolment(
        server=server, agent_id=agent_id, enrolled_at_unix=clock.now(), policy_keys=answer.policy_keys
    )  # fmt: skip
    keep_enrolment(folder, enrolment, answer, _private_pem(key))
    _log.info("enrolled with server", server=server, agent_id=agent_id)
    return enrolment, True


class Renewal:
    """Looks whether the certificate of an enrolment is old, and has it replaced.

    A certificate that an operator manages, outside the enrolment's folder, is left to the operator.

    Parameters
    ----------
    folder : Path
        The enrolment's folder.
    client : ControlClient
        Reads the new certificate by itself once it is there.
    files : TlsFiles
        Those that the client uses.
    clock : Clock, optional
    """

    def __init__(self, folder: Path, client: ControlClient, files: TlsFiles, clock: Clock | None = None) -> None:
        self._folder = folder
        self._client = client
        self._files = files
        self._clock = clock or SystemClock()
        self._ends_unix: float | None = None

    def describe(self) -> dict[str, Any]:
        """Return when the certificate expires, as far as that was looked at."""
        return {"expires_unix": self._ends_unix}

    def look(self) -> None:
        """Renew the certificate if two thirds of its life have passed.

        The new key is made here and now; key and certificate take the place of the old ones in one rename.

        Raises
        ------
        ServerRefusalError, ServerUnavailableError
            The old certificate stays in use.
        """
        begins, ends = (each.timestamp() for each in self._files.certificate_span())
        self._ends_unix = ends
        now, life = self._clock.now(), ends - begins
        if now > ends - EXPIRES_SOON_FRACTION * life:
            _log.error(
                "certificate expires soon",
                expires_in_seconds=round(ends - now),
                remedy="See why it was not renewed: eguard agent status --json. Once expired: eguard agent enroll",
            )
        enrolment = read_enrolment(self._folder)
        if (
            enrolment is None
            or self._files.certificate.parent != self._folder
            or now < begins + RENEWAL_FRACTION * life
        ):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        request = RenewalRequest(csr_pem=_signing_request(enrolment.agent_id, key))
        answer = self._client.post("/endpoint/renew", request, EnrolmentAnswer)
        _check_answer(answer, enrolment.agent_id, key)
        renewed = Enrolment(
            server=enrolment.server,
            agent_id=enrolment.agent_id,
            enrolled_at_unix=enrolment.enrolled_at_unix,
            policy_keys=answer.policy_keys or enrolment.policy_keys,
        )
        keep_enrolment(self._folder, renewed, answer, _private_pem(key))
        self._ends_unix = self._files.certificate_span()[1].timestamp()
        _log.info("renewed certificate", agent_id=enrolment.agent_id, expires_unix=self._ends_unix)


def _present(folder: Path, server: str, agent_id: str, now: float) -> Enrolment | None:
    """Return the valid enrolment that was asked for; refuse if it is another one."""
    if not is_valid(folder, now):
        return None
    enrolment = read_enrolment(folder)
    if enrolment is None or (enrolment.server, enrolment.agent_id) == (server, agent_id):
        return enrolment
    raise ConfigError(
        f"this machine is enrolled as {enrolment.agent_id!r} with {enrolment.server}",
        remedy="Keep that, or replace it on purpose: --force. The old name stays on its server's list.",
    )


def _signing_request(agent_id: str, key: ec.EllipticCurvePrivateKey) -> str:
    """Return a PKCS#10 request for a certificate of this name."""
    names = x509.SubjectAlternativeName([_alternative_name(agent_id)])
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, agent_id)] if len(agent_id) <= _MAX_COMMON_NAME else []
    builder = (
        x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject)).add_extension(names, critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip


def _alternative_name(agent_id: str) -> x509.GeneralName:
    kind, value = certificate_name(agent_id)
    return x509.DNSName(value) if kind == "dns" else x509.UniformResourceIdentifier(value)


def _check_answer(answer: EnrolmentAnswer, agent_id: str, key: ec.EllipticCurvePrivateKey) -> None:
    """Refuse a certificate that is not for this agent and this key, before it takes the place of another."""
    try:
        certificate = x509.load_pem_x509_certificates(answer.certificate_pem.encode())[0]
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        is_ours = list(names) == [_alternative_name(agent_id)] and answer.agent_id == agent_id
        is_ours = is_ours and certificate.public_key() == key.public_key()
        authorities = x509.load_pem_x509_certificates(answer.authority_pem.encode())
    except (ValueError, x509.ExtensionNotFound, UnsupportedAlgorithm) as error:
        raise ServerUnavailableError(f"the server answered no certificate: {error}", reason="unreadable") from error
    if not (is_ours and authorities):
        raise ServerUnavailableError(
            f"the server answered a certificate that is not for {agent_id!r} and the key it was asked for",
            reason="unreadable",
        )

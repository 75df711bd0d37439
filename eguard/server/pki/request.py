"""Requests for certificates (PKCS#10): made where the key is, believed only as far as they were checked."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from eguard.errors import ServerRefusalError
from eguard.server.pki.identity import MALFORMED, agent_id_in
from eguard.wire.agent_name import certificate_name

_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)


def read_request(csr_pem: str, agent_id: str) -> ec.EllipticCurvePublicKey:
    """Return the key that an agent asks a certificate for.

    Nothing but the key is taken from the request: the certificate's names and uses are the authority's to write. A
    request that asks for more than the agent's own name is refused all the same, as somebody meant something by it.

    Raises
    ------
    ServerRefusalError
        422: ``invalid_csr`` (it cannot be read), ``csr_key`` (not on P-256 or P-384), ``csr_signature`` (whoever sent
        it does not hold the key), ``csr_name`` (it does not name `agent_id`, and it alone).
    """
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
            raise _refusal("csr_key", "the key has to lie on the curve P-256 or P-384")
        if not request.is_signature_valid:
            raise _refusal("csr_signature", "the request is not signed by the key that it is for")
        names = _names(request)
    except MALFORMED as error:
        raise _refusal("invalid_csr", "the request for a certificate cannot be read") from error
    if names != {agent_id}:
        raise _refusal("csr_name", "the request has to name the agent, and nobody else")
    return key


def _names(request: x509.CertificateSigningRequest) -> set[str | None]:
    """Return everybody whom a request names; none stands for a name that is no agent's."""
    common = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    names: set[str | None] = {str(attribute.value) for attribute in common}
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return names
    # A DNS name is compared as it stands: how the certificate writes the agent's name is the authority's to decide.
    return names | {
        str(name.value) if isinstance(name, x509.DNSName) else agent_id_in(name) for name in extension.value
    }


def _refusal(code: str, message: str) -> ServerRefusalError:
    return ServerRefusalError(422, code, message, errors=[("csr_pem", message)])


def make_key_and_request(agent_id: str) -> tuple[bytes, str]:
    """Return a new key (PKCS#8, PEM, not encrypted) and a request in an agent's name, for one that cannot enrol."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([alternative_name(agent_id)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        request.public_bytes(Encoding.PEM).decode(),
    )


def alternative_name(agent_id: str) -> x509.GeneralName:
    """Return the subject alternative name of an agent."""
    kind, value = certificate_name(agent_id)
    return x509.DNSName(value) if kind == "dns" else x509.UniformResourceIdentifier(value)

"""Certificates: the authority that issues them, the folder that keeps it, and what a certificate says of its owner."""

from eguard.server.pki.authority import AGENT_DAYS, SERVER_DAYS, Authority, IssuedCertificate, IssuedFor
from eguard.server.pki.folder import PkiFolder, write_private
from eguard.server.pki.identity import CertificateFacts, agent_id_of, facts_of
from eguard.server.pki.request import make_key_and_request, read_request

__all__ = [
    "AGENT_DAYS",
    "SERVER_DAYS",
    "Authority",
    "CertificateFacts",
    "IssuedCertificate",
    "IssuedFor",
    "PkiFolder",
    "agent_id_of",
    "facts_of",
    "make_key_and_request",
    "read_request",
    "write_private",
]

"""Where the settings put the authority's folder, and the server's TLS files in it."""

from __future__ import annotations

from eguard.server.listeners import TlsFiles
from eguard.server.pki.folder import PkiFolder
from eguard.settings import ServerSettings


def pki_folder(settings: ServerSettings) -> PkiFolder:
    """Return the authority's folder, which need not exist yet."""
    return PkiFolder(settings.server_state_path / "pki", settings.pki_passphrase.get_secret_value())


def server_tls_files(settings: ServerSettings) -> TlsFiles:
    """Return what the listeners need: the server's key and chain lie in one file."""
    folder = pki_folder(settings)
    return TlsFiles(certificate=folder.server_file, key=folder.server_file, authority=folder.agents_trust_file)

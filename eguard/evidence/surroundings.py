"""What there is on this machine: the secrets that it knows of, and the fleet's database."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_settings import BaseSettings

from eguard.errors import ConfigError
from eguard.evidence.known_secrets import known_secrets
from eguard.evidence.redaction import Redactor
from eguard.evidence.signing import Custody, sha256_hex
from eguard.settings import (
    ServerSettings,
    load_agent_settings,
    load_mlops_settings,
    load_nightly_settings,
    load_operator_settings,
    load_server_settings,
)

if TYPE_CHECKING:
    from eguard.fleet.database import Database

_KEYS_VARIABLE = "EGUARD_KEYS"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def redactor_here(custody: Custody) -> Redactor:
    """Return a redactor that knows this machine's secrets: environment, settings, token files, private keys."""
    loads: tuple[Callable[[], BaseSettings], ...] = (
        load_agent_settings,
        load_server_settings,
        load_operator_settings,
        load_mlops_settings,
        load_nightly_settings,
    )
    settings = []
    for load in loads:
        try:
            settings.append(load())
        except ConfigError:
            continue  # whoever needs it will say so; the environment is gone through all the same
    return Redactor(known_secrets(os.environ, settings, _secret_files(settings, custody)))


def _secret_files(settings: list[BaseSettings], custody: Custody) -> Iterator[Path]:
    """Yield every file that may hold a private key or a token."""
    yield custody.key_path
    yield from sorted(Path(os.environ.get(_KEYS_VARIABLE) or "keys").glob("*.pem"))
    for each in settings:
        for name in ("api_token_file", "tls_key", "tls_cert", "dask_tls_key"):
            path = getattr(each, name, None)
            if isinstance(path, Path):
                yield path
        for folder in (getattr(each, "tls_folder", None), getattr(each, "state_path", None)):
            if isinstance(folder, Path):
                yield from sorted((*folder.glob("*.pem"), *folder.glob("*.key")))
        if isinstance(each, ServerSettings):
            place = each.server_state_path
            yield from sorted((*place.glob("keys/*.pem"), *place.glob("pki/**/*.pem"), *place.glob("*.token")))


def authority_here() -> str:
    """Return the fingerprint of the authority that this machine's server and agents have; empty if none can be read.

    It is the same on a server and on its endpoints: SHA-256 over the certificates of ``EGUARD_TLS_CA``, in order of
    their bytes.
    """
    try:
        path = load_agent_settings().tls_ca
        text = "" if path is None else path.read_text("ascii", "replace")
        found = b"".join(sorted(ssl.PEM_cert_to_DER_cert(block) for block in _CERTIFICATE.findall(text)))
    except (ConfigError, OSError, ValueError):
        return ""
    return sha256_hex(found) if found else ""


def fleet_database(settings: ServerSettings) -> Database | None:
    """Return the fleet's database; None where neither a server is named nor the embedded one's file is here.

    Where no server is installed there is no database either.
    """
    try:
        from eguard.fleet.database import Database  # noqa: PLC0415 - an endpoint has no SQL
    except ModuleNotFoundError:
        return None
    database = Database(settings.fleet_url)
    if database.is_server or (database.folder is not None and _file_of(settings.fleet_url).is_file()):
        return database
    database.dispose()
    return None


def _file_of(url: str) -> Path:
    return Path(url.partition("///")[2].partition("?")[0])

"""What an enrolment leaves behind: identity, authority, policy keys, the bundle repository's root.

All of it lies in the folder `tls` of the state, for the agent's user alone. `agent.pem` holds private key and
certificate together and is written last: with it there is an enrolment, without it there is none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from eguard.agent.control.credentials import AUTHORITY_NAME, IDENTITY_NAME, read_certificate
from eguard.agent.private_files import make_private_folder, write_private
from eguard.errors import ConfigError
from eguard.settings import AgentSettings
from eguard.wire.control import EnrolmentAnswer, PolicyKey

FACTS_NAME: Final = "enrolment.json"
BUNDLE_ROOT_NAME: Final = "bundle-root.json"
_MAX_FACTS_BYTES: Final = 1_000_000


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an enrolment beside its PEM files."""

    server: str
    agent_id: str
    enrolled_at_unix: float
    policy_keys: tuple[PolicyKey, ...] = ()


def read_enrolment(folder: Path) -> Enrolment | None:
    """Return the enrolment in `folder`; None if there is none.

    Raises
    ------
    ConfigError
        There is one, and it cannot be read.
    """
    if not (folder / IDENTITY_NAME).exists():
        return None
    path = folder / FACTS_NAME
    try:
        with path.open("rb") as stream:
            return msgspec.json.decode(stream.read(_MAX_FACTS_BYTES), type=Enrolment)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the enrolment {path} cannot be read: {error}",
            remedy="Run as the agent's user, or enrol this machine again: eguard agent enroll --force",
        ) from error


def keep_enrolment(folder: Path, enrolment: Enrolment, answer: EnrolmentAnswer, key_pem: bytes) -> None:
    """Write an enrolment; what was there stays in force until the last file, the identity, is replaced.

    Raises
    ------
    OSError
        The disk refused.
    """
    make_private_folder(folder)
    write_private(folder / AUTHORITY_NAME, answer.authority_pem.encode())
    if answer.bundle_root is not None:
        write_private(folder / BUNDLE_ROOT_NAME, answer.bundle_root.encode())
    write_private(folder / FACTS_NAME, msgspec.json.encode(enrolment))
    write_private(folder / IDENTITY_NAME, key_pem + answer.certificate_pem.encode())


def with_enrolment(settings: AgentSettings) -> AgentSettings:
    """Return the settings with the enrolment's server and agent id where none are set.

    Raises
    ------
    ConfigError
        The enrolment cannot be read, or was made for another agent id than the one that is set.
    """
    enrolment = read_enrolment(settings.tls_folder) if settings.tls_cert is None else None
    if enrolment is None:
        return settings
    given = settings.model_fields_set
    if "agent_id" in given and settings.agent_id != enrolment.agent_id:
        raise ConfigError(
            f"this machine was enrolled as {enrolment.agent_id!r}, and EGUARD_AGENT_ID says {settings.agent_id!r}",
            remedy="Unset EGUARD_AGENT_ID, or enrol under the new name: eguard agent enroll --force",
        )
    return settings.model_copy(
        update={"agent_id": enrolment.agent_id, "server": settings.server or enrolment.server}
    )  # fmt: skip


def is_valid(folder: Path, now_unix: float) -> bool:
    """Return whether the folder has an identity whose certificate has not expired."""
    try:
        certificate = read_certificate(folder / IDENTITY_NAME)
    except ConfigError:
        return False
    return certificate.not_valid_after_utc.timestamp() > now_unix

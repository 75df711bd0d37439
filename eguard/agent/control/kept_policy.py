"""The file of the policy that was in force last, read for the agent and for those who look after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from eguard.agent.control.enrolment_files import Enrolment
from eguard.errors import PolicyError
from eguard.policy import open_policy
from eguard.wire.policy import PolicyPayload, SignedPolicy

FILE_NAME: Final = "policy.json"
_MAX_FILE_BYTES: Final = 4_000_000

_log = structlog.get_logger("eguard.agent")


class KeptPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The file: a policy as it was signed, the keys that are trusted since, and the enrolment that it came under."""

    signed: SignedPolicy
    trusted_keys: dict[str, str]
    enrolment: str = ""


def read_kept_policy(
    path: Path, keys: Mapping[str, str], *, agent_id: str, enrolment: str
) -> tuple[PolicyPayload, dict[str, str]] | None:
    """Return the policy that was in force last and the keys trusted since; None if there is none of this enrolment.

    Parameters
    ----------
    path : Path
        The file.
    keys : mapping of str to str
        Public keys by key id, from the enrolment.
    agent_id, enrolment : str
        Whose policy it has to be.

    Raises
    ------
    OSError
        The file is there and cannot be read.
    PolicyError
        It is damaged, or its signature does not hold.
    """
    try:
        with path.open("rb") as stream:
            kept = msgspec.json.decode(stream.read(_MAX_FILE_BYTES), type=KeptPolicy)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} cannot be read: {error}", reason="unreadable") from error
    if kept.enrolment != enrolment:
        _log.info("kept policy belongs to an earlier enrolment", path=str(path))
        return None
    # The file also holds keys; they are trusted because only this agent's user can write it.
    trusted = {**keys, **kept.trusted_keys}
    return open_policy(kept.signed, trusted, agent_id=agent_id, minimum_revision=0), trusted


def enrolment_name(enrolment: Enrolment | None, server: str) -> str:
    """Return what tells the enrolment that a policy came under from others."""
    return f"{enrolment.server} {enrolment.enrolled_at_unix}" if enrolment is not None else server

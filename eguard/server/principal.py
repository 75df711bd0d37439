"""Who is asking: a name and a role, taken from a credential and from nowhere else."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Role(enum.StrEnum):
    """What somebody may do. An admin may do what an analyst may."""

    AGENT = "agent"
    ANALYST = "analyst"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody with a valid credential.

    Parameters
    ----------
    name : str
        An agent's id, an account's name, or the name of an access token.
    role : Role
        What it may do.
    address : str
        Network address of the caller, for the audit log.
    credential : str
        Which credential it was: a certificate's serial number, ``session`` or a token's id. Never a secret.
    """

    name: str
    role: Role
    address: str = ""
    credential: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether it may change what concerns the fleet."""
        return self.role is Role.ADMIN


#: Who runs tasks that nobody asked for.
SYSTEM: Final = Principal("system", Role.ADMIN, credential="server")

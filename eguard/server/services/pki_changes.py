"""What operators do with the authority: make it, renew the server's certificate, put a new authority in its place.

Files cannot be undone with a transaction. The record is therefore written first and committed last: if it cannot be
written, no file was touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from cryptography import x509

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_certificate
from eguard.server.pki.folder import PkiFolder
from eguard.server.pki.identity import serial_hex
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.certificates import live_at

_Result = TypeVar("_Result")


class PkiChanges:
    """Changes of the authority's folder, on record.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        For dates.
    folder : PkiFolder
        The authority's.
    """

    def __init__(self, database: Database, clock: Clock, folder: PkiFolder) -> None:
        self._database = database
        self._clock = clock
        self._folder = folder

    def create(self, principal: Principal, names: Sequence[str]) -> None:
        """Make the authority and the server's certificate.

        Raises
        ------
        ConfigError
            There is an authority already, or a name cannot be in a certificate.
        """
        self._do(principal, "pki.init", {"names": list(names)}, lambda now: self._folder.create(names, now))

    def renew_server(self, principal: Principal, names: Sequence[str] | None = None) -> x509.Certificate:
        """Give the server a new key and certificate; a running one takes it over by itself.

        Raises
        ------
        ConfigError
            There is no authority, or a name cannot be in a certificate.
        """
        wanted = list(names or self._folder.server_names())
        return self._do(
            principal, "pki.renew_server", {"names": wanted}, lambda now: self._folder.renew_server(wanted, now)
        )

    def succeed(self, principal: Principal) -> None:
        """Put a new authority in the place of the present one, which stays trusted until `retire`.

        Raises
        ------
        ConfigError
            There is none.
        """
        present = serial_hex(self._folder.authority().certificate)
        self._do(principal, "pki.succeed", {"predecessor": present}, self._folder.succeed)

    def retire(self, principal: Principal, *, is_forced: bool = False) -> list[str]:
        """Stop trusting earlier authorities and return their serial numbers.

        Raises
        ------
        ServerRefusalError
            409 ``nothing_to_retire``; 409 ``authority_in_use``: agents have certificates of theirs that still hold.
        """
        retired = self.earlier()
        if not retired:
            raise ServerRefusalError(409, "nothing_to_retire", "no authority but the present one is trusted")
        in_use = self.certificates_of_earlier()
        if in_use and not is_forced:
            raise ServerRefusalError(
                409,
                "authority_in_use",
                f"{in_use} certificates that still hold were signed by the authority that would be retired",
                remedy="Wait until the agents have renewed theirs, or lock those out that have not: --force",
            )
        detail = {"retired": retired, "certificates_ended": in_use}
        self._do(principal, "pki.retire", detail, self._folder.retire)
        return retired

    def earlier(self) -> list[str]:
        """Return the serial numbers of authorities that are trusted and sign nothing any more."""
        present = self._folder.authority().certificate
        return [serial_hex(each) for each in self._folder.authorities() if each != present]

    def certificates_of_earlier(self) -> int:
        """Return how many certificates still hold that an earlier authority signed."""
        if not self.earlier():
            return 0
        certificate = endpoint_certificate.c
        since = self._folder.authority().certificate.not_valid_before_utc.timestamp()
        # The backdating of both certificates is the same, so that their beginnings are in the order of their making.
        query = sa.select(sa.func.count()).where(certificate.not_before < since, *live_at(self._clock.now()))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def _do(
        self, principal: Principal, action: str, detail: dict[str, Any], work: Callable[[float], _Result]
    ) -> _Result:
        now = self._clock.now()
        with self._database.write() as connection:
            audit.record(
                connection,
                principal,
                action=action,
                object_type="pki",
                object_id=str(self._folder.path)[-160:],
                detail=detail,
                now=now,
            )
            return work(now)

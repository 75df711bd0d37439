"""Certificates for many agents at once, on an operator's word: for a fleet that is provisioned, or simulated, together.

Each certificate is written down like any other. The audit log gets one record a transaction, which says how many there
were, for whom from the first name to the last, and the digest of their serial numbers; whose a serial number is, the
table of certificates says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, endpoint_certificate
from eguard.server.pki.authority import AGENT_DAYS, Authority, IssuedCertificate
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.certificates import live_at

#: Certificates in one transaction: other writers want their turn.
GROUP: Final = 500

NamedKey = tuple[str, ec.EllipticCurvePublicKey]


class BulkCertificates:
    """Issues certificates by the hundred.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        For dates.
    authority : callable
        The present authority.
    """

    def __init__(self, database: Database, clock: Clock, authority: Callable[[], Authority]) -> None:
        self._database = database
        self._clock = clock
        self._authority = authority

    def issue(
        self, principal: Principal, keys: Sequence[NamedKey], days: float = AGENT_DAYS
    ) -> list[IssuedCertificate]:
        """Issue a certificate for each name and key, and return them in the same order; at most `GROUP`.

        Raises
        ------
        ServerRefusalError
            409 ``already_enrolled``: a name is an agent's already, or holds a certificate; none was issued. 422
            ``too_many_certificates`` and ``name_twice``.
        """
        names = [name for name, _ in keys]
        if len(names) > GROUP:
            raise ServerRefusalError(422, "too_many_certificates", f"at most {GROUP} certificates at once")
        if len(set(names)) < len(names):
            raise ServerRefusalError(422, "name_twice", "a name stands in the list twice")
        if not names:
            return []
        now, authority = self._clock.now(), self._authority()
        issued = [authority.issue_agent(key, name, now, days) for name, key in keys]
        rows = [
            {
                "serial": each.serial,
                "agent_id": name,
                "fingerprint": each.fingerprint,
                "not_before": each.not_before,
                "not_after": each.not_after,
                "issued_at": now,
                "issued_for": "operator",
            }
            for name, each in zip(names, issued, strict=True)
        ]

        def write(connection: sa.Connection) -> None:
            _refuse_known(connection, names, now)
            connection.execute(sa.insert(endpoint_certificate), rows)
            audit.record(
                connection,
                principal,
                action="certificate.issue_many",
                object_type="agent",
                object_id=min(names),
                detail={
                    "certificates": len(names),
                    "last": max(names),
                    "serials_sha256": hashlib.sha256(
                        "\n".join(sorted(each.serial for each in issued)).encode()
                    ).hexdigest(),
                },
                now=now,
            )

        self._database.retrying(write)
        return issued


def _refuse_known(connection: sa.Connection, names: list[str], now: float) -> None:
    """Refuse names that somebody has, as issuing a single certificate does."""
    agent, certificate = endpoint_agent.c, endpoint_certificate.c
    known = sa.select(agent.agent_id).where(agent.agent_id.in_(names), agent.status != "decommissioned")
    holding = sa.select(certificate.agent_id).where(certificate.agent_id.in_(names), *live_at(now))
    found = connection.scalars(known.limit(1)).first() or connection.scalars(holding.limit(1)).first()
    if found is not None:
        raise ServerRefusalError(409, "already_enrolled", f"there is an agent {found} already", agent_id=found)

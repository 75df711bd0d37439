"""Certificates of agents: which were issued, which still count.

The authority issues nothing that is not written down here, so that a serial number nobody knows is refused. What the
database says of a certificate is believed for up to five seconds: a revocation counts within that time everywhere, on
connections that are open as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import sqlalchemy as sa
import structlog

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, endpoint_certificate
from eguard.server.pki.authority import IssuedCertificate, IssuedFor
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.believed import Believed
from eguard.server.services.row_view import row_view

CertificateState = Literal["ok", "revoked", "expired", "unknown", "decommissioned"]

#: Certificates of one agent that hold at once; a renewal needs two, a lost answer one more.
MAX_LIVE: Final = 8

_certificate = endpoint_certificate.c
_log = structlog.get_logger("eguard.server")

# Made once, as every connection asks.
_STANDING: Final = sa.select(
    _certificate.serial, _certificate.revoked_at, _certificate.not_after, endpoint_agent.c.status
).outerjoin_from(endpoint_certificate, endpoint_agent, _certificate.agent_id == endpoint_agent.c.agent_id)
_STATE: Final = _STANDING.where(_certificate.serial == sa.bindparam("serial"))
_STATES: Final = _STANDING.where(_certificate.serial.in_(sa.bindparam("serials", expanding=True)))


class Certificates:
    """What the server knows of the certificates that it issued.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Tells which have expired, and how old an answer is.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._believed: Believed[CertificateState] = Believed(clock)
        self._told: Believed[CertificateState] = Believed(clock)

    def cached_state(self, serial: str) -> CertificateState | None:
        """Return ``ok`` if the database said so within the last five seconds; it touches nothing that can wait."""
        return self._believed.get(serial)

    def state_of(self, serial: str) -> CertificateState:
        """Return whether a certificate counts; only ``ok`` lets its holder in."""
        return self.states_of([serial])[0]

    def states_of(self, serials: Sequence[str]) -> list[CertificateState]:
        """Return of several certificates whether they count, with one query for all."""
        states = {serial: cached for serial in serials if (cached := self.cached_state(serial)) is not None}
        unknown = sorted(set(serials) - set(states))
        if unknown:
            asked_at = self._believed.now()
            with self._database.read() as connection:
                rows = {row.serial: row for row in connection.execute(_STATES, {"serials": unknown})}
            for serial in unknown:
                state = states[serial] = _read(rows.get(serial), self._clock.now())
                self._believed.keep(serial, "ok" if state == "ok" else None, asked_at)
                if state != "ok":
                    self._refuse(serial, state)
        return [states[serial] for serial in serials]

    def _refuse(self, serial: str, state: CertificateState) -> None:
        """Say in the log who was turned away, each at most every few seconds."""
        if self._told.get(serial) is None:
            _log.warning("refused certificate", serial=serial, state=state)
            self._told.keep(serial, state, self._told.now())

    def forget(self) -> None:
        """Ask the database anew for every certificate."""
        self._believed.forget()

    def revoke(
        self, principal: Principal, *, agent_id: str | None = None, serial: str | None = None, reason: str
    ) -> list[str]:
        """Revoke an agent's certificates, or the one with a serial number, and return the serial numbers.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_certificate``: there is none that still holds.
        """
        now = self._clock.now()
        of_whom = _certificate.serial == serial if serial is not None else _certificate.agent_id == (agent_id or "")

        def revoke(connection: sa.Connection) -> list[str]:
            live = sa.select(_certificate.serial, _certificate.agent_id).where(of_whom, *live_at(now))
            rows = connection.execute(live.order_by(_certificate.serial).with_for_update()).all()
            if not rows:
                whose = f"with serial number {serial}" if serial is not None else f"of agent {agent_id}"
                raise ServerRefusalError(
                    404, "unknown_certificate", f"there is no certificate {whose} that still holds"
                )
            serials = [row.serial for row in rows]
            revoke_serials(connection, serials, reason, now)
            audit.record(
                connection,
                principal,
                action="certificate.revoke",
                object_type="agent",
                object_id=rows[0].agent_id,
                detail={"serials": serials, "reason": reason},
                now=now,
            )
            return serials

        serials = self._database.retrying(revoke)
        self.forget()
        return serials

    def list(self, agent_id: str | None = None, limit: int = 1000) -> list[dict[str, Any]]:
        """Return certificates, the latest first."""
        query = (
            sa.select(endpoint_certificate).order_by(_certificate.issued_at.desc(), _certificate.serial).limit(limit)
        )
        if agent_id is not None:
            query = query.where(_certificate.agent_id == agent_id)
        with self._database.read() as connection:
            return [row_view(row, endpoint_certificate) for row in connection.execute(query).mappings()]

    def counts(self) -> dict[str, int]:
        """Return how many certificates hold, were revoked, and have expired."""
        now = self._clock.now()
        state = sa.case(
            (_certificate.revoked_at.is_not(None), "revoked"), (_certificate.not_after <= now, "expired"), else_="live"
        )
        query = sa.select(state.label("state"), sa.func.count()).select_from(endpoint_certificate).group_by("state")
        with self._database.read() as connection:
            found = {str(name): int(count) for name, count in connection.execute(query)}
        return {name: found.get(name, 0) for name in ("live", "revoked", "expired")}


def _read(row: Any, now: float) -> CertificateState:
    if row is None:
        return "unknown"
    if row.status == "decommissioned":
        return "decommissioned"
    if row.revoked_at is not None:
        return "revoked"
    return "ok" if now < row.not_after else "expired"


def require_live(connection: sa.Connection, serial: str, now: float) -> None:
    """Require that a certificate counts now, and keep it from being revoked before this transaction ends.

    Raises
    ------
    ServerRefusalError
        403 ``certificate_revoked`` and its like, as for any request with such a certificate.
    """
    row = connection.execute(_STATE.with_for_update(), {"serial": serial}).one_or_none()
    state = _read(row, now)
    if state != "ok":
        raise ServerRefusalError(403, f"certificate_{state}", f"the certificate {serial} is {state}")


def live_at(now: float) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Return the conditions that hold for certificates that are neither revoked nor expired."""
    return _certificate.revoked_at.is_(None), _certificate.not_after > now


def record_issued(
    connection: sa.Connection, issued: IssuedCertificate, agent_id: str, issued_for: IssuedFor, now: float
) -> None:
    """Write down a certificate in the transaction that lets it out of the house.

    Raises
    ------
    ServerRefusalError
        409 ``too_many_certificates``: the agent has as many as it may; somebody renews for fun.
    """
    live = sa.select(sa.func.count()).where(_certificate.agent_id == agent_id, *live_at(now))
    if connection.execute(live).scalar_one() >= MAX_LIVE:
        raise ServerRefusalError(
            409,
            "too_many_certificates",
            f"agent {agent_id} has {MAX_LIVE} certificates that hold; revoke those that nobody uses",
        )
    connection.execute(
        sa.insert(endpoint_certificate).values(
            serial=issued.serial,
            agent_id=agent_id,
            fingerprint=issued.fingerprint,
            not_before=issued.not_before,
            not_after=issued.not_after,
            issued_at=now,
            issued_for=issued_for,
        )
    )


def revoke_serials(connection: sa.Connection, serials: list[str], reason: str, now: float) -> None:
    """Mark certificates as revoked."""
    connection.execute(
        sa.update(endpoint_certificate)
        .where(_certificate.serial.in_(serials))
        .values(revoked_at=now, revoked_reason=reason[:255])
    )


def revoke_all(connection: sa.Connection, agent_id: str, reason: str, now: float) -> list[str]:
    """Revoke what an agent has and return the serial numbers; whoever calls puts it on record."""
    live = sa.select(_certificate.serial).where(_certificate.agent_id == agent_id, *live_at(now))
    serials = list(connection.scalars(live.order_by(_certificate.serial).with_for_update()))
    if serials:
        revoke_serials(connection, serials, reason, now)
    return serials

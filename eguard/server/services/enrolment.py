"""How a machine becomes an agent: a token once, a certificate from then on.

What a token lets in is decided in one transaction: the use is counted, the certificate written down and the agent's
row made together or not at all. Two machines that bring the last use at the same moment therefore get one certificate
between them, on every database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
import structlog

from eguard.clock import Clock
from eguard.errors import FleetStoreError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, endpoint_certificate, endpoint_incarnation
from eguard.fleet.upsert import upsert
from eguard.server.pki.authority import AGENT_DAYS, Authority, IssuedCertificate
from eguard.server.pki.request import read_request
from eguard.server.principal import Principal, Role
from eguard.server.services import audit
from eguard.server.services.certificates import live_at, record_issued, require_live
from eguard.server.services.enrolment_tokens import EnrolmentTokens, TokenRow
from eguard.server.services.revisions import next_revision
from eguard.wire.control import EnrolmentAnswer, EnrolmentRequest, PolicyKey, RenewalRequest

_ALREADY_REMEDY: Final = "Decommission the agent first: eguard server agent decommission"

_log = structlog.get_logger("eguard.server")


class Enrolment:
    """Enrolment and renewal.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        For dates.
    authority, trust_pem : callables
        The present authority, and the text of the file that agents check the server against; asked anew each time, as
        both may be rotated while the server runs.
    policy_keys : callable
        Keys that policies are signed with.
    bundle_root : callable
        The bundle repository's trusted root metadata, if it has one.
    days : float
        How long an agent's certificate holds.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        authority: Callable[[], Authority],
        trust_pem: Callable[[], str],
        policy_keys: Callable[[], tuple[PolicyKey, ...]] = tuple,
        bundle_root: Callable[[], str | None] = lambda: None,
        days: float = AGENT_DAYS,
    ) -> None:
        self._database = database
        self._clock = clock
        self._authority = authority
        self._trust_pem = trust_pem
        self._policy_keys = policy_keys
        self._bundle_root = bundle_root
        self._days = days
        self.tokens = EnrolmentTokens(database, clock)

    def enrol(self, request: EnrolmentRequest, address: str = "") -> EnrolmentAnswer:
        """Let a machine in.

        Raises
        ------
        ServerRefusalError
            403 ``token_invalid``, ``token_revoked``, ``token_expired``, ``token_used_up``; 422 of
            `eguard.server.pki.request.read_request`; 409 ``already_enrolled``.
        """
        token = self.tokens.check(request.token)  # before anything that costs: strangers get no further
        principal = Principal(request.agent_id, Role.AGENT, address, token.token_id or "")
        try:
            key = read_request(request.csr_pem, request.agent_id)
            now = self._clock.now()
            issued = self._authority().issue_agent(key, request.agent_id, now, self._days)
            answer = self._answer(request.agent_id, issued)
            self._admit(principal, request, token, issued, now)
        except ServerRefusalError as error:
            self._record_refusal(principal, error)
            raise
        _log.info("enrolled agent", agent_id=request.agent_id, token_id=token.token_id, serial=issued.serial)
        return answer

    def renew(self, principal: Principal, request: RenewalRequest) -> EnrolmentAnswer:
        """Give an agent its next certificate; the present one holds to its end.

        Raises
        ------
        ServerRefusalError
            422 of `eguard.server.pki.request.read_request`; 409 ``too_many_certificates``; 403 as for any request if
            the present certificate does not count any more.
        """
        key = read_request(request.csr_pem, principal.name)
        now = self._clock.now()
        issued = self._authority().issue_agent(key, principal.name, now, self._days)
        answer = self._answer(principal.name, issued)

        def renew(connection: sa.Connection) -> None:
            # Asked anew under a lock: what was believed a moment ago must not outlive its revocation as a new one.
            require_live(connection, principal.credential, now)
            record_issued(connection, issued, principal.name, "renewal", now)
            audit.record(
                connection,
                principal,
                action="endpoint.renew",
                object_type="agent",
                object_id=principal.name,
                detail={"serial": issued.serial, "not_after_unix": issued.not_after},
                now=now,
            )

        self._database.retrying(renew)
        _log.info("renewed certificate", agent_id=principal.name, serial=issued.serial)
        return answer

    def issue(self, principal: Principal, agent_id: str, csr_pem: str, days: float | None = None) -> IssuedCertificate:
        """Issue a certificate on an operator's word, for a machine that cannot enrol; its first heartbeat enrols it.

        Raises
        ------
        ServerRefusalError
            422 of `eguard.server.pki.request.read_request`; 409 ``already_enrolled``.
        """
        key = read_request(csr_pem, agent_id)
        now = self._clock.now()
        issued = self._authority().issue_agent(key, agent_id, now, days or self._days)

        def issue(connection: sa.Connection) -> None:
            agent = _locked_agent(connection, agent_id)
            _refuse_present(connection, agent, agent_id, now)
            if agent is not None:
                _readmit(connection, agent, TokenRow(None, str(agent["group"])), now)
            record_issued(connection, issued, agent_id, "operator", now)
            audit.record(
                connection,
                principal,
                action="certificate.issue",
                object_type="agent",
                object_id=agent_id,
                detail={"serial": issued.serial, "not_after_unix": issued.not_after},
                now=now,
            )

        self._database.retrying(issue)
        return issued

    def _answer(self, agent_id: str, issued: IssuedCertificate) -> EnrolmentAnswer:
        return EnrolmentAnswer(
            agent_id=agent_id,
            certificate_pem=issued.pem,
            authority_pem=self._trust_pem(),
            policy_keys=self._policy_keys(),
            bundle_root=self._bundle_root(),
        )

    def _admit(
        self, principal: Principal, request: EnrolmentRequest, token: TokenRow, issued: IssuedCertificate, now: float
    ) -> None:
        def admit(connection: sa.Connection) -> None:
            # The token first: whoever wants the same one waits here.
            self.tokens.consume(connection, token, now)
            agent = _locked_agent(connection, request.agent_id)
            _refuse_present(connection, agent, request.agent_id, now)
            if agent is None:
                _insert_agent(connection, request, token, now)
            else:
                _readmit(connection, agent, token, now)
                _take_incarnation(connection, request, int(agent["incarnation_ordinal"]), now)
            record_issued(connection, issued, request.agent_id, "agent", now)
            audit.record(
                connection,
                principal,
                action="endpoint.enroll",
                object_type="agent",
                object_id=request.agent_id,
                detail={
                    "group": token.group,
                    "serial": issued.serial,
                    "hostname": request.hostname,
                    "os_type": request.os_type,
                    "again": agent is not None,
                },
                now=now,
            )

        try:
            self._database.retrying(admit)
        except FleetStoreError as error:
            if error.context.get("reason") == "conflict":  # the same name, at the same moment, from two machines
                raise _already_enrolled(request.agent_id) from error
            raise

    def _record_refusal(self, principal: Principal, error: ServerRefusalError) -> None:
        """Put on record that a machine with a good token was turned away; strangers' attempts are only logged."""
        now = self._clock.now()
        self._database.retrying(
            lambda connection: audit.record(
                connection,
                principal,
                action="endpoint.enroll_refused",
                object_type="agent",
                object_id=principal.name,
                detail={"code": error.reason},
                now=now,
            )
        )


def _locked_agent(connection: sa.Connection, agent_id: str) -> sa.RowMapping | None:
    query = sa.select(endpoint_agent).where(endpoint_agent.c.agent_id == agent_id).with_for_update()
    return connection.execute(query).mappings().one_or_none()


def _already_enrolled(agent_id: str) -> ServerRefusalError:
    return ServerRefusalError(
        409, "already_enrolled", f"there is an agent {agent_id} already", remedy=_ALREADY_REMEDY, agent_id=agent_id
    )


def _refuse_present(connection: sa.Connection, agent: sa.RowMapping | None, agent_id: str, now: float) -> None:
    """Refuse a name that somebody has: an agent that was not decommissioned, or whoever holds a certificate for it."""
    if agent is not None and agent["status"] != "decommissioned":
        raise _already_enrolled(agent_id)
    live = sa.select(sa.func.count()).where(endpoint_certificate.c.agent_id == agent_id, *live_at(now))
    if connection.execute(live).scalar_one():
        raise _already_enrolled(agent_id)


def _insert_agent(connection: sa.Connection, request: EnrolmentRequest, token: TokenRow, now: float) -> None:
    connection.execute(
        sa.insert(endpoint_agent).values(
            agent_id=request.agent_id,
            incarnation=request.incarnation,
            incarnation_ordinal=1,
            group=token.group,
            status="active",
            last_heartbeat=now,
            enrolled_at=now,
            enrolled_with=token.token_id,
        )
    )
    connection.execute(
        sa.insert(endpoint_incarnation).values(
            agent_id=request.agent_id, incarnation=request.incarnation, ordinal=1, registered_at=now
        )
    )


def _readmit(connection: sa.Connection, agent: sa.RowMapping, token: TokenRow, now: float) -> None:
    """Take a decommissioned agent back: its votes count as a new agent's do."""
    changes = {
        "status": "active",
        "group": token.group,
        "enrolled_at": now,
        "enrolled_with": token.token_id,
        "last_heartbeat": now,
        "heard_hours": 0,
        "heard_hour": None,
        "decommissioned_at": None,
        "quarantined_at": None,
        "cloned_at": None,
    }
    if token.group != agent["group"]:
        changes["group_revision"] = next_revision(connection)
    connection.execute(sa.update(endpoint_agent).where(endpoint_agent.c.agent_id == agent["agent_id"]).values(changes))


def _take_incarnation(connection: sa.Connection, request: EnrolmentRequest, latest: int, now: float) -> None:
    """Make the machine's incarnation the latest, also one that was known: whoever enrols speaks last."""
    connection.execute(
        upsert(endpoint_incarnation, ["agent_id", "incarnation"]).values(
            agent_id=request.agent_id, incarnation=request.incarnation, ordinal=latest + 1, registered_at=now
        )
    )
    connection.execute(
        sa.update(endpoint_agent)
        .where(endpoint_agent.c.agent_id == request.agent_id)
        .values(incarnation=request.incarnation, incarnation_ordinal=latest + 1)
    )

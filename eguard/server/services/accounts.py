"""People's accounts: who they are, what they may do, and how long a guesser has to wait."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
import structlog

from eguard.clock import Clock
from eguard.errors import FleetStoreError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import user_account, user_session
from eguard.server.principal import SYSTEM, Principal, Role
from eguard.server.services import audit
from eguard.server.services.passwords import hash_password, is_password
from eguard.server.services.row_view import row_view

#: Wrong passwords in a row after which an account is locked, and for how long at first; each further one doubles it.
MAX_FAILURES: Final = 5
LOCK_SECONDS: Final = 300.0
MAX_LOCK_SECONDS: Final = 86_400.0
#: What a person or a token may be. Agents have certificates.
ROLES: Final = (Role.ANALYST, Role.ADMIN)

_account = user_account.c
_log = structlog.get_logger("eguard.server")


class Accounts:
    """The accounts.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Tells how long a lock lasts.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, principal: Principal, name: str, role: Role, password: str) -> None:
        """Make an account.

        Raises
        ------
        ServerRefusalError
            422 ``invalid_account`` or ``weak_password``; 409 ``account_exists``.
        """
        check_name_and_role(name, role, "invalid_account")
        password_hash = hash_password(password)
        now = self._clock.now()

        def add(connection: sa.Connection) -> None:
            connection.execute(
                sa.insert(user_account).values(
                    name=name, role=str(role), password_hash=password_hash, failures=0, created_at=now
                )
            )
            self._record(connection, principal, "account.create", name, {"role": str(role)})

        try:
            self._database.retrying(add)
        except FleetStoreError as error:
            if error.context.get("reason") != "conflict":
                raise
            raise ServerRefusalError(409, "account_exists", f"there is an account {name} already") from error

    def set_password(self, principal: Principal, name: str, password: str) -> None:
        """Give an account another password, end its sessions and lift its lock.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_account``; 422 ``weak_password``.
        """
        self._change(
            principal,
            "account.password",
            name,
            {"password_hash": hash_password(password), "failures": 0, "locked_until": None},
            ends_sessions=True,
        )

    def disable(self, principal: Principal, name: str) -> None:
        """Let an account sign in no more and end its sessions.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_account``.
        """
        self._change(principal, "account.disable", name, {"disabled_at": self._clock.now()}, ends_sessions=True)

    def enable(self, principal: Principal, name: str) -> None:
        """Let an account sign in again and lift its lock.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_account``.
        """
        self._change(principal, "account.enable", name, {"disabled_at": None, "failures": 0, "locked_until": None})

    def list(self) -> list[dict[str, Any]]:
        """Return all accounts by name, without what is kept of their passwords."""
        query = sa.select(user_account).order_by(_account.name)
        with self._database.read() as connection:
            return [row_view(row, user_account) for row in connection.execute(query).mappings()]

    def authenticate(self, name: str, password: str, address: str = "") -> Principal | None:
        """Return whom a name and a password are; none if they are nobody's, or the account is locked or disabled.

        The attempt is counted before the password is looked at, so that attempts at the same moment do not see each
        other's count too late.
        """
        row = self._database.retrying(lambda connection: self._count_attempt(connection, name))
        if not is_password(password, None if row is None else str(row["password_hash"])):
            if row is not None and row["failures"] + 1 >= MAX_FAILURES:
                self._record_lock(name, row["failures"] + 1, address)
            return None
        assert row is not None
        forgive = sa.update(user_account).where(_account.name == name).values(failures=0, locked_until=None)
        self._database.retrying(lambda connection: connection.execute(forgive))
        return Principal(name, Role(row["role"]), address, "session")

    def _count_attempt(self, connection: sa.Connection, name: str) -> sa.RowMapping | None:
        now = self._clock.now()
        row = (
            connection.execute(sa.select(user_account).where(_account.name == name).with_for_update())
            .mappings()
            .one_or_none()
        )
        if row is None or row["disabled_at"] is not None:
            return None
        if row["locked_until"] is not None and row["locked_until"] > now:
            return None
        failures = row["failures"] + 1
        locked_until = now + lock_seconds(failures) if failures >= MAX_FAILURES else None
        connection.execute(
            sa.update(user_account).where(_account.name == name).values(failures=failures, locked_until=locked_until)
        )
        return row

    def _record_lock(self, name: str, failures: int, address: str) -> None:
        _log.warning("account locked after wrong passwords", account=name, failures=failures, address=address)
        by_server = Principal(SYSTEM.name, SYSTEM.role, address, SYSTEM.credential)
        detail = {"failures": failures, "seconds": lock_seconds(failures)}
        self._database.retrying(lambda connection: self._record(connection, by_server, "account.lock", name, detail))

    def _change(
        self, principal: Principal, action: str, name: str, values: dict[str, Any], *, ends_sessions: bool = False
    ) -> None:
        def change(connection: sa.Connection) -> None:
            known = sa.select(_account.name).where(_account.name == name).with_for_update()
            if connection.execute(known).one_or_none() is None:
                raise ServerRefusalError(404, "unknown_account", f"there is no account {name}")
            connection.execute(sa.update(user_account).where(_account.name == name).values(values))
            if ends_sessions:
                connection.execute(sa.delete(user_session).where(user_session.c.name == name))
            self._record(connection, principal, action, name, {})

        self._database.retrying(change)

    def _record(
        self, connection: sa.Connection, principal: Principal, action: str, name: str, detail: dict[str, Any]
    ) -> None:
        audit.record(
            connection,
            principal,
            action=action,
            object_type="account",
            object_id=name,
            detail=detail,
            now=self._clock.now(),
        )


def lock_seconds(failures: int) -> float:
    """Return for how long so many wrong passwords in a row lock an account.

    Examples
    --------
    >>> [lock_seconds(failures) for failures in (5, 6, 7, 100)]
    [300.0, 600.0, 1200.0, 86400.0]
    """
    return float(min(LOCK_SECONDS * 2.0 ** min(failures - MAX_FAILURES, 20), MAX_LOCK_SECONDS))


def check_name_and_role(name: str, role: Role, code: str) -> None:
    """Refuse a name that cannot be printed in a line, and a role that is an agent's.

    Raises
    ------
    ServerRefusalError
        422 with `code`.
    """
    errors = []
    if not 1 <= len(name) <= 128 or not name.isprintable() or name != name.strip():
        errors.append(("name", "1 to 128 printable characters, no blank at either end"))
    if role not in ROLES:
        errors.append(("role", "analyst or admin"))
    if errors:
        field, detail = errors[0]
        raise ServerRefusalError(422, code, f"{field}: {detail}", errors=errors)

"""Sessions of people who signed in: a cookie of 256 random bits, kept as SHA-256, that ends by itself.

A session ends half an hour after its last use, twelve hours after its beginning, and at once when its account is
disabled or gets another password. What it may do is read from the account, not from the session.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from eguard.clock import Clock
from eguard.fleet.database import Database
from eguard.fleet.tables import user_account, user_session
from eguard.server.principal import Principal, Role
from eguard.server.services import audit
from eguard.server.services.believed import Believed

IDLE_SECONDS: Final = 1800.0
ABSOLUTE_SECONDS: Final = 43_200.0
#: A use is written down once in this time; more often would cost a write a request.
USE_SECONDS: Final = 60.0

_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_session = user_session.c


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who signed in. A change by session has to repeat `csrf_token`, which no other site can read."""

    principal: Principal
    csrf_token: str = field(repr=False)
    expires_at: float


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that just began; `cookie` is told to the browser and kept nowhere."""

    session: Session
    cookie: str = field(repr=False)


class Sessions:
    """The sessions.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Tells which have ended.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._believed: Believed[Session] = Believed(clock)

    def begin(self, principal: Principal) -> NewSession:
        """Begin a session of somebody who proved who they are."""
        now = self._clock.now()
        cookie, csrf_token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        expires_at = now + ABSOLUTE_SECONDS

        def begin(connection: sa.Connection) -> None:
            connection.execute(sa.delete(user_session).where(_session.expires_at <= now))
            connection.execute(
                sa.insert(user_session).values(
                    session_hash=_hash(cookie),
                    name=principal.name,
                    csrf_token=csrf_token,
                    created_at=now,
                    last_used_at=now,
                    expires_at=expires_at,
                )
            )
            self._record(connection, principal, "session.begin", now)

        self._database.retrying(begin)
        return NewSession(Session(principal, csrf_token, expires_at), cookie)

    def of_cookie(self, cookie: str) -> Session | None:
        """Return the session of a cookie, unless it has ended; finding it counts as a use."""
        if not _COOKIE.fullmatch(cookie):
            return None
        session_hash = _hash(cookie)
        found = self._believed.get(session_hash)
        now = self._clock.now()
        if found is not None and now < found.expires_at:
            return found
        asked_at = self._believed.now()
        query = (
            sa.select(user_session, user_account.c.role)
            .join_from(user_session, user_account, _session.name == user_account.c.name)
            .where(
                _session.session_hash == session_hash,
                _session.expires_at > now,
                _session.last_used_at > now - IDLE_SECONDS,
                user_account.c.disabled_at.is_(None),
            )
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        session = None
        if row is not None:
            session = Session(Principal(row.name, Role(row.role), credential="session"), row.csrf_token, row.expires_at)
            if row.last_used_at <= now - USE_SECONDS:
                self._note_use(session_hash, now)
        self._believed.keep(session_hash, session, asked_at)
        return session

    def end(self, principal: Principal, cookie: str) -> bool:
        """End a session and tell whether there was one."""
        now = self._clock.now()

        def end(connection: sa.Connection) -> bool:
            gone = connection.execute(sa.delete(user_session).where(_session.session_hash == _hash(cookie))).rowcount
            if gone:
                self._record(connection, principal, "session.end", now)
            return bool(gone)

        was_there = self._database.retrying(end)
        self._believed.forget()
        return was_there

    def forget(self) -> None:
        """Ask the database anew for every session."""
        self._believed.forget()

    def _note_use(self, session_hash: str, now: float) -> None:
        use = sa.update(user_session).where(_session.session_hash == session_hash).values(last_used_at=now)
        self._database.retrying(lambda connection: connection.execute(use))

    @staticmethod
    def _record(connection: sa.Connection, principal: Principal, action: str, now: float) -> None:
        audit.record(
            connection,
            principal,
            action=action,
            object_type="account",
            object_id=principal.name,
            detail={},
            now=now,
        )


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()

"""Enrolment tokens: what an operator hands out with the server's address; each lets so many machines in, no more."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from msgspec import Struct

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import enrollment_token
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.row_view import row_view
from eguard.server.services.secret_tokens import identifier_of, is_secret, new_secret

DAY_SECONDS: Final = 86_400.0
DEFAULT_DAYS: Final = 7.0
MAX_DAYS: Final = 366.0
MAX_USES: Final = 100_000

_token = enrollment_token.c


class TokenRow(NamedTuple):
    """A token whose secret was shown to be known; without a name it is an operator's word."""

    token_id: str | None
    group: str


class CreatedToken(Struct, frozen=True, kw_only=True):
    """A new token; `secret` is shown this once."""

    token_id: str
    secret: str
    expires_at_unix: float

    def __repr__(self) -> str:
        return f"CreatedToken(token_id={self.token_id!r})"


class EnrolmentTokens:
    """The tokens.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Tells which have expired.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create(
        self,
        principal: Principal,
        *,
        group: str = "default",
        max_uses: int = 1,
        days: float = DEFAULT_DAYS,
        note: str = "",
    ) -> CreatedToken:
        """Make a token that lets `max_uses` machines into a group.

        Raises
        ------
        ServerRefusalError
            422 ``invalid_token_request``: a bound is exceeded.
        """
        _check_bounds(group, max_uses, days, note)
        now = self._clock.now()
        secret = new_secret("enrol")
        expires_at = now + days * DAY_SECONDS

        def create(connection: sa.Connection) -> None:
            connection.execute(
                sa.insert(enrollment_token).values(
                    token_id=secret.identifier,
                    token_hash=secret.digest,
                    group=group,
                    max_uses=max_uses,
                    uses=0,
                    note=note,
                    created_by=principal.name[:128],
                    created_at=now,
                    expires_at=expires_at,
                )
            )
            audit.record(
                connection,
                principal,
                action="enrolment_token.create",
                object_type="enrolment_token",
                object_id=secret.identifier,
                detail={"group": group, "max_uses": max_uses, "expires_at_unix": expires_at, "note": note},
                now=now,
            )

        self._database.retrying(create)
        return CreatedToken(token_id=secret.identifier, secret=secret.text, expires_at_unix=expires_at)

    def list(self) -> list[dict[str, Any]]:
        """Return all tokens, the latest first, without anything that lets a machine in."""
        query = sa.select(enrollment_token).order_by(_token.created_at.desc(), _token.token_id)
        with self._database.read() as connection:
            return [row_view(row, enrollment_token) for row in connection.execute(query).mappings()]

    def revoke(self, principal: Principal, token_id: str) -> None:
        """Let nobody in with a token any more; agents that it let in stay.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_token``: there is none, or it was revoked before.
        """
        now = self._clock.now()

        def revoke(connection: sa.Connection) -> None:
            changed = connection.execute(
                sa.update(enrollment_token)
                .where(_token.token_id == token_id, _token.revoked_at.is_(None))
                .values(revoked_at=now)
            ).rowcount
            if not changed:
                raise ServerRefusalError(404, "unknown_token", f"there is no enrolment token {token_id} to revoke")
            audit.record(
                connection,
                principal,
                action="enrolment_token.revoke",
                object_type="enrolment_token",
                object_id=token_id,
                detail={},
                now=now,
            )

        self._database.retrying(revoke)

    def check(self, secret: str) -> TokenRow:
        """Return the token of a secret, if it lets anybody in now; `consume` decides.

        Raises
        ------
        ServerRefusalError
            403 ``token_invalid``, ``token_revoked``, ``token_expired`` or ``token_used_up``. The last three are told
            only to whoever knows the secret.
        """
        token_id = identifier_of("enrol", secret)
        with self._database.read() as connection:
            row = _row(connection, token_id or "")
        if row is None or not is_secret(secret, row["token_hash"]):
            raise ServerRefusalError(403, "token_invalid", "this is no enrolment token of this server")
        fault = _fault(row, self._clock.now())
        if fault is not None:
            raise fault
        return TokenRow(str(row["token_id"]), str(row["group"]))

    @staticmethod
    def consume(connection: sa.Connection, token: TokenRow, now: float) -> None:
        """Count one use in the caller's transaction, which ends without a trace if this raises.

        Raises
        ------
        ServerRefusalError
            As of `check`: somebody else was first.
        """
        # One statement tests and counts, so that no two transactions see the same last use.
        counted = connection.execute(
            sa.update(enrollment_token)
            .where(
                _token.token_id == token.token_id,
                _token.uses < _token.max_uses,
                _token.revoked_at.is_(None),
                _token.expires_at > now,
            )
            .values(uses=_token.uses + 1)
        ).rowcount
        if not counted:
            row = _row(connection, token.token_id or "", is_locking=True)
            fault = None if row is None else _fault(row, now)
            raise fault or ServerRefusalError(403, "token_used_up", "the token has let in all that it was made for")


def _row(connection: sa.Connection, token_id: str, *, is_locking: bool = False) -> sa.RowMapping | None:
    query = sa.select(enrollment_token).where(_token.token_id == token_id)
    return connection.execute(query.with_for_update() if is_locking else query).mappings().one_or_none()


def _fault(row: sa.RowMapping, now: float) -> ServerRefusalError | None:
    if row["revoked_at"] is not None:
        return ServerRefusalError(403, "token_revoked", "the token was revoked")
    if row["expires_at"] <= now:
        return ServerRefusalError(403, "token_expired", "the token has expired")
    if row["uses"] >= row["max_uses"]:
        return ServerRefusalError(403, "token_used_up", "the token has let in all that it was made for")
    return None


def _check_bounds(group: str, max_uses: int, days: float, note: str) -> None:
    errors = []
    if not 1 <= len(group) <= 64 or not group.isprintable():
        errors.append(("group", "1 to 64 printable characters"))
    if not 1 <= max_uses <= MAX_USES:
        errors.append(("max_uses", f"1 to {MAX_USES}"))
    if not 0 < days <= MAX_DAYS:
        errors.append(("days", f"more than 0, at most {MAX_DAYS:g}"))
    if len(note) > 255 or not (note.isprintable() or not note):
        errors.append(("note", "at most 255 printable characters"))
    if errors:
        field, detail = errors[0]
        raise ServerRefusalError(422, "invalid_token_request", f"{field}: {detail}", errors=errors)

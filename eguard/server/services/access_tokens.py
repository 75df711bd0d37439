"""Bearer tokens: how programs speak to the administration listener. Each has a name, a role and an end."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from msgspec import Struct

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import access_token
from eguard.server.principal import Principal, Role
from eguard.server.services import audit
from eguard.server.services.accounts import check_name_and_role
from eguard.server.services.believed import Believed
from eguard.server.services.row_view import row_view
from eguard.server.services.secret_tokens import digest_of, identifier_of, is_secret, new_secret

DAY_SECONDS: Final = 86_400.0
DEFAULT_DAYS: Final = 90.0
MAX_DAYS: Final = 366.0

_token = access_token.c


class CreatedAccessToken(Struct, frozen=True, kw_only=True):
    """A new token; `secret` is shown this once."""

    token_id: str
    name: str
    role: str
    secret: str
    expires_at_unix: float

    def __repr__(self) -> str:
        return f"CreatedAccessToken(token_id={self.token_id!r}, name={self.name!r}, role={self.role!r})"


class AccessTokens:
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
        self._believed: Believed[tuple[Principal, float]] = Believed(clock)

    def create(self, principal: Principal, name: str, role: Role, days: float = DEFAULT_DAYS) -> CreatedAccessToken:
        """Make a token.

        Raises
        ------
        ServerRefusalError
            422 ``invalid_token_request``.
        """
        check_name_and_role(name, role, "invalid_token_request")
        if not 0 < days <= MAX_DAYS:
            detail = f"more than 0, at most {MAX_DAYS:g}"
            raise ServerRefusalError(422, "invalid_token_request", f"days: {detail}", errors=[("days", detail)])
        now = self._clock.now()
        secret = new_secret("access")
        expires_at = now + days * DAY_SECONDS

        def create(connection: sa.Connection) -> None:
            connection.execute(
                sa.insert(access_token).values(
                    token_id=secret.identifier,
                    token_hash=secret.digest,
                    name=name,
                    role=str(role),
                    created_by=principal.name[:128],
                    created_at=now,
                    expires_at=expires_at,
                )
            )
            detail = {"name": name, "role": str(role), "expires_at_unix": expires_at}
            self._record(connection, principal, "access_token.create", secret.identifier, detail)

        self._database.retrying(create)
        return CreatedAccessToken(
            token_id=secret.identifier, name=name, role=str(role), secret=secret.text, expires_at_unix=expires_at
        )

    def list(self) -> list[dict[str, Any]]:
        """Return all tokens, the latest first, without anything that lets somebody in."""
        query = sa.select(access_token).order_by(_token.created_at.desc(), _token.token_id)
        with self._database.read() as connection:
            return [row_view(row, access_token) for row in connection.execute(query).mappings()]

    def revoke(self, principal: Principal, token_id: str) -> None:
        """End a token; it counts here at once and on other servers within five seconds.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_token``: there is none, or it was revoked before.
        """
        now = self._clock.now()

        def revoke(connection: sa.Connection) -> None:
            changed = connection.execute(
                sa.update(access_token)
                .where(_token.token_id == token_id, _token.revoked_at.is_(None))
                .values(revoked_at=now)
            ).rowcount
            if not changed:
                raise ServerRefusalError(404, "unknown_token", f"there is no access token {token_id} to revoke")
            self._record(connection, principal, "access_token.revoke", token_id, {})

        self._database.retrying(revoke)
        self._believed.forget()

    def _record(
        self, connection: sa.Connection, principal: Principal, action: str, token_id: str, detail: dict[str, Any]
    ) -> None:
        audit.record(
            connection,
            principal,
            action=action,
            object_type="access_token",
            object_id=token_id,
            detail=detail,
            now=self._clock.now(),
        )

    def principal_of(self, secret: str) -> Principal | None:
        """Return whose a secret is; none if it is nobody's, expired or revoked."""
        token_id = identifier_of("access", secret)
        if token_id is None:
            return None
        key = digest_of(secret)
        now = self._clock.now()
        known = self._believed.get(key)
        if known is not None and now < known[1]:
            return known[0]
        asked_at = self._believed.now()
        query = sa.select(access_token).where(
            _token.token_id == token_id, _token.revoked_at.is_(None), _token.expires_at > now
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or not is_secret(secret, row.token_hash):
            self._believed.keep(key, None, asked_at)
            return None
        principal = Principal(row.name, Role(row.role), credential=row.token_id)
        self._believed.keep(key, (principal, row.expires_at), asked_at)
        return principal

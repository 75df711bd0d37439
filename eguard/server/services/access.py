"""Who people and programs are: from a password, a cookie or a bearer token to a principal."""

from __future__ import annotations

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.server.principal import Principal
from eguard.server.services.access_tokens import AccessTokens
from eguard.server.services.accounts import Accounts
from eguard.server.services.sessions import NewSession, Session, Sessions


class Access:
    """Accounts, sessions and tokens.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Tells what has ended.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self.accounts = Accounts(database, clock)
        self.sessions = Sessions(database, clock)
        self.tokens = AccessTokens(database, clock)

    def sign_in(self, name: str, password: str, address: str = "") -> NewSession:
        """Begin a session.

        Raises
        ------
        ServerRefusalError
            401 ``invalid_login``, the same for a wrong name, a wrong password, a locked and a disabled account: whoever
            guesses learns nothing from it.
        """
        principal = self.accounts.authenticate(name, password, address)
        if principal is None:
            raise ServerRefusalError(
                401, "invalid_login", "name or password is wrong, or the account is locked for some minutes"
            )
        return self.sessions.begin(principal)

    def sign_out(self, principal: Principal, cookie: str) -> bool:
        """End a session."""
        return self.sessions.end(principal, cookie)

    def session_of(self, cookie: str) -> Session | None:
        """Return the session of a cookie, unless it has ended."""
        return self.sessions.of_cookie(cookie)

    def principal_of_session(self, cookie: str) -> Principal | None:
        """Return who signed in with a cookie, unless the session has ended."""
        session = self.sessions.of_cookie(cookie)
        return None if session is None else session.principal

    def principal_of_bearer(self, secret: str) -> Principal | None:
        """Return whose a bearer token is; none if it is nobody's, expired or revoked."""
        return self.tokens.principal_of(secret)

    def disable_account(self, principal: Principal, name: str) -> None:
        """Disable an account; its sessions end at once here, and within five seconds on other servers."""
        self.accounts.disable(principal, name)
        self.sessions.forget()

    def set_password(self, principal: Principal, name: str, password: str) -> None:
        """Change a password; sessions of the account end at once here, and within five seconds on other servers."""
        self.accounts.set_password(principal, name, password)
        self.sessions.forget()

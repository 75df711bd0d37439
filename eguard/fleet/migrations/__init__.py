"""Changes of the tables from version to version, applied without a configuration file of the migration tool."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from eguard.errors import FleetStoreError
from eguard.fleet.migrations.adoption import EARLIER_MARK

__all__ = ["current_revision", "downgrade", "head_revision", "is_earlier_form", "upgrade"]

# It tells every step at the level of normal work; who called says what was done.
logging.getLogger("alembic").setLevel(logging.WARNING)

_RUNNING: Final = threading.Lock()
#: Name of the lock that a server's database holds while one process migrates.
_LOCK: Final = "eguard-migrate"
_LOCK_SECONDS: Final = 60


def head_revision() -> str:
    """Return the revision that this version works with."""
    return str(_scripts().get_current_head())


def current_revision(connection: sa.Connection) -> str | None:
    """Return the revision of a database, None if it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def is_earlier_form(connection: sa.Connection) -> bool:
    """Tell whether the tables are those of a version from before migrations; `upgrade` takes their rows over."""
    return sa.inspect(connection).has_table(EARLIER_MARK)


def upgrade(connection: sa.Connection, now: float) -> str:
    """Bring the tables up to this version and return its revision; does nothing if they are.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of a write transaction. SQLite keeps the whole migration in it; a server commits each statement for itself, and
        a migration that broke off there is completed by calling this again.
    now : float
        Time that rows made by a migration carry.

    Raises
    ------
    FleetStoreError
        The database was made by a later version.
    """
    _refuse_later_versions(connection)
    with _Alone(connection):
        if current_revision(connection) != head_revision():
            _run(connection, "head", now)
    return head_revision()


def downgrade(connection: sa.Connection, revision: str) -> None:
    """Take the tables back to an earlier `revision`; ``base`` removes them with all that they hold."""
    with _Alone(connection):
        scripts = _scripts()
        environment = EnvironmentContext(Config(), scripts, fn=lambda rev, _: _downgrades(scripts, revision, rev))
        _migrate(environment, connection, 0.0)


def _run(connection: sa.Connection, revision: str, now: float) -> None:
    scripts = _scripts()
    environment = EnvironmentContext(Config(), scripts, fn=lambda rev, _: _upgrades(scripts, revision, rev))
    _migrate(environment, connection, now)


def _migrate(environment: EnvironmentContext, connection: sa.Connection, now: float) -> None:
    # The tool keeps the migration that runs in a variable of its own, one for all threads.
    with _RUNNING, environment:
        environment.configure(connection=connection, now=now)
        environment.run_migrations()


def _upgrades(scripts: ScriptDirectory, revision: str, current: Any) -> Any:
    return scripts._upgrade_revs(revision, current)  # noqa: SLF001 - the step that the tool's own command takes


def _downgrades(scripts: ScriptDirectory, revision: str, current: Any) -> Any:
    return scripts._downgrade_revs(revision, current)  # noqa: SLF001 - as above


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent))


def _refuse_later_versions(connection: sa.Connection) -> None:
    found = current_revision(connection)
    try:
        known = found is None or _scripts().get_revision(found) is not None
    except CommandError:
        known = False
    if not known:
        raise FleetStoreError(
            f"the database has schema {found}, this version knows {head_revision()}",
            remedy="Install the version that made the database, or a later one.",
            reason="schema_version",
            found=found,
        )


class _Alone:
    """On a server, hold a lock by name: of two processes that migrate, the second finds nothing left to do."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._is_server = connection.dialect.name != "sqlite"

    def __enter__(self) -> None:
        if not self._is_server:
            return
        got = self._connection.execute(sa.select(sa.func.get_lock(_LOCK, _LOCK_SECONDS))).scalar()
        if got != 1:
            raise FleetStoreError(
                "another process is migrating the database and does not finish",
                remedy="Wait for it, or end it, and try again.",
                reason="database_unavailable",
            )

    def __exit__(self, *_: object) -> None:
        if self._is_server:
            self._connection.execute(sa.select(sa.func.release_lock(_LOCK)))

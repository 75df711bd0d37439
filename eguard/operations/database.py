"""Check of the fleet database, where this machine has one. It is only read; SQLAlchemy is no part of an agent."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eguard.errors import FleetStoreError
from eguard.operations.check import Finding, failed, ok, skipped
from eguard.operations.examination import Examination
from eguard.settings.origins import redact_password
from eguard.settings.server import DATABASE_NAME

if TYPE_CHECKING:
    from eguard.fleet.database import Database

_MIGRATE: Final = "eguard server migrate"


def check_database(examination: Examination) -> Finding:
    """Check that the fleet database answers and has the tables of this version."""
    url = url_of(examination)
    if not url:
        return skipped("EGUARD_DATABASE_URL is not set, and this machine keeps no server; an agent needs no database")
    if find_spec("sqlalchemy") is None:
        return skipped("SQLAlchemy is not installed; a server needs it: pip install 'eguard[server]'")
    return _look(url)


def url_of(examination: Examination) -> str:
    """Return the URL of the fleet database that this machine works with; empty if it has none."""
    server = examination.server_settings
    is_embedded = (server.server_state_path / DATABASE_NAME).exists()
    return server.fleet_url if server.database_url or is_embedded else ""


def _look(url: str) -> Finding:
    from eguard.fleet.database import Database  # noqa: PLC0415 - the agent does not have the libraries

    missing = _missing_file(url)
    if missing is not None:
        return failed(f"there is no database {missing}", f"Correct EGUARD_DATABASE_URL, or make the tables: {_MIGRATE}")
    try:
        database = Database(url)
    except FleetStoreError as error:
        return failed(
            error.message, "Write it as sqlite:////PATH, with four slashes, or mysql://USER:PASSWORD@HOST/NAME."
        )
    try:
        return _judge(database, redact_password(url))
    except FleetStoreError as error:
        return failed(error.message, f"{error.remedy} See docs/how-to/database.md.")
    finally:
        database.dispose()


def _judge(database: Database, shown: str) -> Finding:
    from eguard.fleet.migrations import current_revision, head_revision, is_earlier_form  # noqa: PLC0415 - as above

    wanted = head_revision()
    with database.read() as connection:
        found, is_earlier = current_revision(connection), is_earlier_form(connection)
    if is_earlier:
        return failed(f"{shown} has the tables of a version from before migrations", f"Take them over: {_MIGRATE}")
    if found is None:
        return failed(f"{shown} has no tables of eGuard: it was not migrated", f"Make them: {_MIGRATE}")
    if found != wanted:
        return failed(
            f"{shown} has schema {found}, and this version works with {wanted}",
            f"If the database is older: {_MIGRATE}. If it is newer, install the version of eGuard that made it.",
        )
    return ok(f"{shown} answers ({database.dialect_name}), schema {found}")


def _missing_file(url: str) -> Path | None:
    """Return the file of a SQLite URL if it does not exist: opening it would create an empty one."""
    import sqlalchemy as sa  # noqa: PLC0415

    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        return None
    if parsed.get_backend_name() != "sqlite" or parsed.database in {None, "", ":memory:"}:
        return None
    path = Path(str(parsed.database))
    return None if path.exists() else path


def is_missing(url: str) -> bool:
    """Return whether the URL names a SQLite file that does not exist."""
    return _missing_file(url) is not None


def count_fleet_rows(url: str) -> int:
    """Return the rows of the current fleet generation.

    Raises
    ------
    FleetStoreError
        The database cannot be read.
    """
    from eguard.fleet.store import FleetStore  # noqa: PLC0415

    with FleetStore(url) as store:
        return len(store.fleet_rows())

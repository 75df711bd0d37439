"""Check of the fleet database, where this machine has one. It is only read; SQLAlchemy is no part of an agent."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from eguard.errors import FleetStoreError
from eguard.operations.check import Finding, failed, ok, skipped
from eguard.operations.examination import Examination
from eguard.settings.origins import redact_password


def check_database(examination: Examination) -> Finding:
    """Check that the fleet database answers and has the tables of this version."""
    url = examination.server_settings.database_url
    if not url:
        return skipped("EGUARD_DATABASE_URL is not set; an agent needs no database")
    if find_spec("sqlalchemy") is None:
        return skipped("SQLAlchemy is not installed; a server needs it: pip install 'eguard[server]'")
    return _look(url)


def _look(url: str) -> Finding:
    import sqlalchemy as sa  # noqa: PLC0415 - the agent does not have it

    from eguard.fleet.database import Database  # noqa: PLC0415
    from eguard.fleet.tables import SCHEMA_VERSION, schema_version  # noqa: PLC0415

    shown = redact_password(url)
    remedy = (
        "Correct EGUARD_DATABASE_URL, or make the tables: "
        f"python -c 'from eguard.fleet import FleetStore; FleetStore.create(\"{shown}\").close()'"
    )
    missing = _missing_file(url)
    if missing is not None:
        return failed(f"there is no database {missing}", remedy)
    try:
        database = Database(url)
    except FleetStoreError as error:
        return failed(error.message.replace(url, shown), "Write it as sqlite:////PATH, with four slashes.")
    try:
        with database.read() as connection:
            if not sa.inspect(connection).has_table(schema_version.name):
                return failed(f"{shown} has no tables of eGuard: it was not migrated", remedy)
            found = connection.execute(sa.select(sa.func.max(schema_version.c.version))).scalar()
    except FleetStoreError as error:
        return failed(error.message.replace(url, shown), remedy)
    finally:
        database.dispose()
    if found != SCHEMA_VERSION:
        return failed(
            f"{shown} has schema {found}, and this version works with {SCHEMA_VERSION}",
            "Install the version of eGuard that made it, or, if it is older, migrate it: FleetStore.create(URL).",
        )
    return ok(f"{shown} answers, schema {found}")


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

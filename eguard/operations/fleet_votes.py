"""Check of who votes on the fleet's baseline, where this machine has the database. It is only read."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from eguard.errors import FleetStoreError
from eguard.operations.check import Finding, ok, skipped, warning
from eguard.operations.database import is_missing, url_of
from eguard.operations.examination import Examination

if TYPE_CHECKING:
    from eguard.fleet.database import Database
    from eguard.settings import ServerSettings


def check_fleet_votes(examination: Examination) -> Finding:
    """Check that the votes of the fleet's agents count, and say how many agents do not vote yet."""
    url = url_of(examination)
    if not url:
        return skipped("this machine has no fleet database")
    if find_spec("sqlalchemy") is None or is_missing(url):
        return skipped("the fleet database cannot be read; see database")
    from eguard.fleet.database import Database  # noqa: PLC0415 - the agent does not have the libraries

    try:
        database = Database(url)
    except FleetStoreError as error:
        return skipped(f"{error.message}; see database")
    try:
        return _judge(database, examination)
    except FleetStoreError as error:
        return skipped(f"{error.message}; see database")
    finally:
        database.dispose()


def _judge(database: Database, examination: Examination) -> Finding:
    from eguard.fleet.voters import BEYOND_SHARE_REMEDY  # noqa: PLC0415 - as above

    settings = examination.server_settings
    active, voters = _electorate(database, settings, examination.clock.now())
    waiting = f"{voters} of {active} active agents may vote"
    if voters < active:
        waiting += f"; the others were heard from for less than {settings.aggregation_min_agent_age_seconds:g} s"
    report = _latest_report(database)
    if report is None:
        return ok(f"nothing was aggregated yet; {waiting}")
    beyond = int(report.get("votes_beyond_token_share", 0))
    votes = int(report.get("votes", 0))
    if beyond:
        return warning(
            f"{beyond} of {beyond + votes} votes did not count in generation {report.get('generation')}: too many "
            f"agents were enrolled with one token; {waiting}",
            BEYOND_SHARE_REMEDY,
        )
    return ok(f"{votes} votes in generation {report.get('generation')}; {waiting}")


def _electorate(database: Database, settings: ServerSettings, now: float) -> tuple[int, int]:
    """Return how many agents are active and were heard from lately, and how many of them may vote."""
    import sqlalchemy as sa  # noqa: PLC0415 - as above

    from eguard.fleet.kernel import AggregationRules  # noqa: PLC0415
    from eguard.fleet.tables import endpoint_agent  # noqa: PLC0415
    from eguard.fleet.voters import voter_conditions  # noqa: PLC0415

    counted = sa.select(sa.func.count()).select_from(endpoint_agent)
    rules = AggregationRules(min_agent_age_seconds=settings.aggregation_min_agent_age_seconds)
    with database.read() as connection:
        active, voters = (
            connection.execute(counted.where(*voter_conditions(each, now))).scalar_one()
            for each in (AggregationRules(), rules)
        )
    return active, voters


def _latest_report(database: Database) -> dict[str, Any] | None:
    """Return what the latest aggregation said of itself."""
    import sqlalchemy as sa  # noqa: PLC0415 - as above

    from eguard.fleet.tables import fleet_generation  # noqa: PLC0415

    column = fleet_generation.c
    query = sa.select(column.report).where(column.source == "aggregate").order_by(column.generation.desc()).limit(1)
    with database.read() as connection:
        kept = connection.execute(query).scalar_one_or_none()
    return None if kept is None else dict(kept.get("report") or {})

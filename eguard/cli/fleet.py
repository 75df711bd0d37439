"""`eguard fleet`: what the fleet agrees on, through a running server; or one aggregation on a database, offline."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from eguard.cli import fleet_drift, fleet_signals
from eguard.cli.output import print_facts, print_json, print_table, progress_bar

app = typer.Typer(
    help="What the fleet agrees on: aggregate it, look at it, go back, take an agent's votes away.",
    no_args_is_help=True,
)

fleet_drift.register(app)
app.command()(fleet_signals.signals)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit log.")]
_REPORTED = (
    "generation",
    "aggregated",
    "updated",
    "recomputed_keys",
    "full_because",
    "skipped",
    "removed",
    "agents",
    "votes",
    "votes_beyond_token_share",
    "js_mean",
    "js_max",
)


class Engine(StrEnum):
    """Where votes are aggregated."""

    local = "local"
    dask = "dask"


class ImportSource(StrEnum):
    """Where imported rows come from."""

    any = "import"
    workflow_bundle = "workflow_bundle"


@app.callback()
def group() -> None:
    """Look at what the fleet agrees on and change it, through a running server.

    The server is EGUARD_API, the token EGUARD_API_TOKEN or EGUARD_API_TOKEN_FILE, the authority EGUARD_TLS_CA.
    """


@app.command()
def aggregate(
    *,
    min_agents: Annotated[
        int | None, typer.Option("--min-agents", min=1, help="Fewest agents behind a published key.")
    ] = None,
    url: Annotated[
        str, typer.Option("--url", help="Aggregate on this database, without a server: sqlite:///PATH or mysql://...")
    ] = "",
    full: Annotated[
        bool, typer.Option("--full", help="Aggregate all keys, not only those whose votes changed since last time.")
    ] = False,
    engine: Annotated[
        Engine | None,
        typer.Option("--engine", help="With --url: where to aggregate; EGUARD_AGGREGATION_ENGINE if not given."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, help="With --url: processes of `local`; EGUARD_AGGREGATION_WORKERS if not given."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Aggregate the votes of all active agents into a new generation of the fleet's baseline.

    Keys whose votes did not change since the last time are taken over as they are: the outcome is the same. The rules
    are the server's in both cases: EGUARD_AGGREGATION_MIN_AGENT_AGE_SECONDS=0 for a database whose agents never
    sent a heartbeat.

    Examples: `eguard fleet aggregate`; `eguard fleet aggregate --full`;
    `eguard fleet aggregate --url sqlite:////var/lib/eguard-server/fleet.sqlite --workers 2`
    """
    if url:
        report = _aggregate_offline(url, min_agents or 3, engine, workers, full=full, quiet=as_json)
    elif engine or workers:
        raise typer.BadParameter("a running server has its own settings; give --url as well, or set them there")
    else:
        wanted: dict[str, Any] = {} if min_agents is None else {"min_agents": min_agents}
        report = _post("/endpoint/baseline/aggregate", wanted | ({"full": True} if full else {}))
    if as_json:
        print_json(report)
        return
    print_facts({name: report[name] for name in _REPORTED})
    for reason, count in {**report["skipped_by_reason"], **report["removed_by_reason"]}.items():
        typer.echo(f"  {reason}: {count}")
    if report["votes_beyond_token_share"]:
        from eguard.fleet.voters import BEYOND_SHARE_REMEDY

        typer.echo(
            f"{report['votes_beyond_token_share']} votes do not count: too many agents were enrolled with one token. "
            + BEYOND_SHARE_REMEDY
        )


def _aggregate_offline(
    url: str, min_agents: int, engine: Engine | None, workers: int | None, *, full: bool, quiet: bool
) -> dict[str, Any]:
    from eguard.fleet.executors import EngineOptions
    from eguard.fleet.store import FleetStore
    from eguard.settings import load_server_settings

    given = {"aggregation_engine": engine and engine.value, "aggregation_workers": workers}
    settings = load_server_settings().model_copy(update={name: value for name, value in given.items() if value})
    with FleetStore(url) as store, progress_bar(quiet=quiet) as progress:
        report = store.aggregate(
            min_agents,
            settings.aggregation_max_colluders,
            min_agent_age_seconds=settings.aggregation_min_agent_age_seconds,
            max_token_share=settings.aggregation_max_token_share,
            progress=progress,
            engine=EngineOptions.of(settings),
            is_full=full,
        )
    return report.to_dict()


@app.command()
def rows(
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Rows to show.")] = 50,
    cursor: Annotated[str, typer.Option("--after", help="Show the rows after this process key.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show what is published: each process key, how many agents agree, and on what.

    Example: `eguard fleet rows --limit 20`
    """
    page = _get("/endpoint/baseline/fleet", limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    table = [
        (row["process_key"], row["agent_count"], row["tolerated_faults"], f"{row['stddev_kl']:.3f}", _shares(row))
        for row in page["fleet_baselines"]
    ]
    columns = ("process key", "agents", "faults borne", "spread, bits", "distribution")
    print_table(f"generation {page['generation']}", columns, table, numbers=False)
    if page["next_cursor"]:
        typer.echo(f"there are more: --after '{page['next_cursor']}'")


def _shares(row: dict[str, Any]) -> str:
    shares = sorted(row["median_distribution"].items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.2f}" for name, share in shares[:3])


@app.command()
def rollback(
    generation: Annotated[int, typer.Argument(help="The generation to go back to.")],
    *,
    reason: ReasonOption,
    as_json: JsonOption = False,
) -> None:
    """Publish an earlier generation anew: agents never see a lower number.

    Alarms of drift that were raised after it are resolved as adversarial. The votes stay what they are: quarantine
    whoever forged them, or the next aggregation publishes them again.

    Example: `eguard fleet rollback 41 --reason "poisoned by the lab's machines"`
    """
    _show(_post("/endpoint/baseline/fleet/rollback", {"generation": generation, "reason": reason}), as_json=as_json)


@app.command()
def approve(
    generation: Annotated[int | None, typer.Argument(help="The generation; the current one if not given.")] = None,
    *,
    reason: ReasonOption,
    as_json: JsonOption = False,
) -> None:
    """Make a generation what later ones are compared with.

    Alarms of drift that were raised up to it are resolved as organic; the detectors learn anew for 30 cycles.

    Example: `eguard fleet approve --reason "new office suite"`
    """
    _show(_post("/endpoint/fleet/approve", {"generation": generation, "reason": reason}), as_json=as_json)


@app.command("import")
def import_rows(
    file: Annotated[Path, typer.Argument(help="A page as `eguard fleet rows --json` prints it, or a list of rows.")],
    *,
    source_version: Annotated[str, typer.Option("--source", help="Where the rows come from: a name and version.")],
    reason: ReasonOption,
    kind: Annotated[
        ImportSource, typer.Option("--kind", help="What it is: rows of any origin, or a workflow's bundle.")
    ] = ImportSource.any,
    as_json: JsonOption = False,
) -> None:
    """Publish a whole generation that comes from elsewhere.

    Example: `eguard fleet import lab.json --source lab-2026-11 --reason "first day of a new fleet"`
    """
    import json

    from eguard.errors import ParseError

    try:
        value = json.loads(file.read_bytes())
    except ValueError as error:
        raise ParseError(f"{file} is no JSON: {error}", remedy="Write it with `eguard fleet rows --json`.") from error
    found = value.get("fleet_baselines") if isinstance(value, dict) else value
    if not isinstance(found, list):
        raise ParseError(f"{file} has no rows", remedy="Write it with `eguard fleet rows --json`.")
    wanted = {
        "source_version": source_version,
        "source": kind.value,
        "reason": reason,
        "fleet_baselines": found,
    }
    _show(_post("/endpoint/baseline/fleet/import", wanted), as_json=as_json)


@app.command()
def release(
    agent_id: Annotated[str, typer.Argument(help="The agent.")], *, reason: ReasonOption, as_json: JsonOption = False
) -> None:
    """Give a quarantined agent its votes back.

    Example: `eguard fleet release web-07 --reason "it was the new build server"`
    """
    _show(_post("/endpoint/fleet/release", {"agent_id": agent_id, "reason": reason}), as_json=as_json)


def _get(path: str, **query: Any) -> dict[str, Any]:
    from eguard.operations.server_api import ServerApi

    with ServerApi.from_settings() as api:
        return api.get(path, **query)


def _post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    from eguard.operations.server_api import ServerApi

    with ServerApi.from_settings() as api:
        return api.post(path, body)


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    print_json(answer) if as_json else print_facts(answer)

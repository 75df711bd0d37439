"""`eguard ml candidates`, `ml promote` and `ml rollback`: models on their way to agents, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from eguard.cli.api import fact_text, get, post, tell
from eguard.cli.output import print_facts, print_json, print_table
from eguard.errors import ServerRefusalError

candidates_app = typer.Typer(help="The registry of models that may go to agents.", no_args_is_help=True)

EXIT_REFUSED: Final = 1
_STAGES: Final = {"shadow": 0.0, "stable": 100.0}

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
WhyOption = Annotated[str, typer.Option("--reason", help="Why, for the audit log and for whoever looks next.")]


@candidates_app.command("list")
def list_candidates(*, as_json: JsonOption = False) -> None:
    """Show every candidate: where it is, and whether it passed the gates.

    A night that succeeded enters its bundle within a minute. The release that agents are served is `stable`.
    """
    answer = get("/endpoint/ml-ops/candidates")
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            each["candidate_id"],
            fact_text(each["model_version"]),
            _place(each),
            "met" if each["gates_passed"] else "missed",
            _moment(each["stage_since_unix"]),
        )
        for each in answer["candidates"]
    ]
    print_table("Candidates", ("candidate", "model", "stage", "gates", "since"), rows, numbers=False)


@candidates_app.command()
def show(
    candidate_id: Annotated[str, typer.Argument(help="The candidate; `list` shows them.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one candidate: gates, digests, what agents report of it, every decision, and what keeps it where it is."""
    answer = get(f"/endpoint/ml-ops/candidates/{candidate_id}")
    if as_json:
        print_json(answer)
        return
    print_facts({name: fact_text(value) for name, value in _facts(answer).items()})
    if answer["gates"]:
        gates = [(each["name"], each["value"], f"{each['rule']} {each['threshold']:g}") for each in answer["gates"]]
        print_table("Gates", ("gate", "value", "asked"), gates)
    _print_checks(answer["checks"])
    decisions = [
        (_moment(each["at_unix"]), each["principal"], each["action"], fact_text(each["detail"].get("reason") or None))
        for each in answer["history"]
    ]
    print_table("Decisions", ("when", "who", "what", "why"), decisions, numbers=False)
    for cause in answer["causes"]:
        typer.echo(f"not yet: {fact_text(cause['detail'])}")


def promote(
    candidate_id: Annotated[str, typer.Argument(help="The candidate; `eguard ml candidates list` shows them.")],
    *,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage", "--percent", help="shadow, a share in percent such as 1, or stable; the next without it."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on against checks, time and freeze; needs --reason.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit log.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Take a candidate to its next stage: shadow, 1, 5, 20 percent of the agents, stable.

    In the shadow agents score with it beside the model in use and report how they differ. Each stage is a new version
    of the signed repository. It is refused (exit code 1) before 30 minutes in a stage, while a check is missed or
    unknown, and while rollouts are frozen. A model that missed a gate is never promoted.

    Example: `eguard ml promote 4f6b1c2d9e8a7b30 --stage 1`
    """
    try:
        answer = post(
            "/endpoint/ml-ops/promote",
            candidate_id=candidate_id,
            to_percent=_percent(stage),
            force=force,
            reason=reason,
        )
    except ServerRefusalError as error:
        if error.reason != "promotion_refused":
            raise
        causes = [{"code": code, "detail": detail} for code, detail in error.errors]
        if as_json:
            print_json({"refused": True, "candidate_id": candidate_id, "causes": causes})
        else:
            rows = [tuple(each.values()) for each in causes]
            print_table(f"{candidate_id} stays where it is", ("cause", "why"), rows, numbers=False)
        raise typer.Exit(EXIT_REFUSED) from error
    tell(answer if as_json else _short(answer), as_json=as_json)


def rollback(
    *,
    reason: WhyOption,
    to: Annotated[
        str | None, typer.Option("--to", help="The earlier release; the latest one before this without it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take back the candidate that agents have; without one, or with --to, go back to an earlier release.

    The old files are offered under new versions, so agents take them as they take any release, within 150 seconds.

    Example: `eguard ml rollback --reason "alerts doubled"`
    """
    answer = post("/endpoint/ml-ops/rollback", to=to, reason=reason)
    tell(answer if as_json else _short(answer), as_json=as_json)


def _percent(stage: str | None) -> float | None:
    if stage is None:
        return None
    if stage in _STAGES:
        return _STAGES[stage]
    try:
        return float(stage.removesuffix("%"))
    except ValueError as error:
        raise typer.BadParameter(
            "is shadow, stable or a share in percent such as 1 or 5", param_hint="--stage"
        ) from error


def _place(row: dict[str, Any]) -> str:
    return f"{row['percent']:g} %" if row["stage"] == "canary" else str(row["stage"])


def _short(answer: dict[str, Any]) -> dict[str, Any]:
    names = ("candidate_id", "model_version", "from", "stage", "percent", "versions", "withdrawn", "forced")
    return {name: answer[name] for name in names if name in answer}


def _facts(answer: dict[str, Any]) -> dict[str, Any]:
    facts = {
        "candidate": answer["candidate_id"],
        "model": answer["model_version"],
        "digest": answer["digest"],
        "source": answer["source"] + (f", run {answer['run_id']}" if answer["run_id"] else ""),
        "gates": "met" if answer["gates_passed"] else "missed",
        "stage": f"{_place(answer)} since {_moment(answer['stage_since_unix'])}, by {answer['stage_by']}",
        "why": answer["reason"] or None,
        "agents that run it": answer["running"],
        "next": answer["next"] and f"{answer['next']}, {answer['next_cohort_size']} agents",
    }
    for name in ("shadow", "alerts", "refused"):
        if answer.get(name):
            facts[name] = answer[name]
    return facts


def _print_checks(checks: list[dict[str, Any]]) -> None:
    if checks:
        rows = [(each["name"], each["state"], fact_text(each["detail"])) for each in checks]
        print_table("Checks", ("check", "state", "why"), rows, numbers=False)


def _moment(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%MZ}"

"""Rollouts on the command line: `eguard policy advance`, `freeze`, `resume`, `kill`, `rollback` and `status`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from eguard.cli.api import fact_text, get, post, tell
from eguard.cli.output import print_facts, print_json, print_table
from eguard.cli.policy import JsonOption, app
from eguard.errors import ServerRefusalError

__all__ = ["app"]

EXIT_REFUSED = 1

PolicyArgument = Annotated[str, typer.Argument(help="The policy that is rolled out.")]
WhyOption = Annotated[str, typer.Option("--reason", help="Why, for the audit log and for whoever looks next.")]
OnePolicyOption = Annotated[str | None, typer.Option("--policy", help="Only this policy; all of them without it.")]


@app.command()
def status(
    policy_id: Annotated[str | None, typer.Argument(help="Only this policy's rollout.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show where rollouts stand: stage, real cohort, the four checks, and what keeps them from the next stage."""
    answer = get("/endpoint/rollout/status", policy_id=policy_id)
    if as_json:
        print_json(answer)
        return
    if not answer["rollouts"]:
        typer.echo("no rollouts: no policy names a share of the fleet")
    for each in answer["rollouts"]:
        _print_rollout(each)


@app.command()
def advance(
    policy_id: PolicyArgument,
    *,
    to_percent: Annotated[
        float | None, typer.Option("--to", help="The share to go to; the next stage without it.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on against checks, time and freeze; needs --reason.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why it is forced, for the audit log.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Take a rollout to its next stage: 0, 1, 5, 20, 100 percent.

    It is refused (exit code 1) before 30 minutes in a stage, while a check is missed or unknown, and while frozen.

    Example: `eguard policy advance mlops-rollout`
    """
    try:
        answer = post(
            "/endpoint/policy/advance", policy_id=policy_id, to_percent=to_percent, force=force, reason=reason
        )
    except ServerRefusalError as error:
        if error.reason != "rollout_refused":
            raise
        causes = [{"code": code, "detail": detail} for code, detail in error.errors]
        if as_json:
            print_json({"refused": True, "policy_id": policy_id, "causes": causes})
        else:
            print_table(
                f"{policy_id} stays where it is",
                ("cause", "why"),
                [tuple(each.values()) for each in causes],
                numbers=False,
            )
        raise typer.Exit(EXIT_REFUSED) from error
    if as_json:
        print_json(answer)
        return
    checks = answer.pop("checks")
    print_facts({name: fact_text(value) for name, value in answer.items()})
    _print_checks(checks)


@app.command()
def freeze(*, reason: WhyOption, policy_id: OnePolicyOption = None, as_json: JsonOption = False) -> None:
    """Hold rollouts at the stage where they are, as after a drift alarm."""
    tell(post("/endpoint/fleet/freeze", reason=reason, policy_id=policy_id), as_json=as_json)


@app.command()
def resume(*, reason: WhyOption, policy_id: OnePolicyOption = None, as_json: JsonOption = False) -> None:
    """Let frozen rollouts go on; time and checks still count."""
    tell(post("/endpoint/fleet/resume", reason=reason, policy_id=policy_id), as_json=as_json)


@app.command()
def kill(*, reason: WhyOption, policy_id: OnePolicyOption = None, as_json: JsonOption = False) -> None:
    """Switch uploads and seeds off, everywhere or for one policy. Detection goes on; nothing is restarted.

    The server refuses within a second, agents stop within five. Rollouts are frozen. The way back is
    `eguard policy rollback`, then `resume` and `advance`.

    Example: `eguard policy kill --reason "poisoned profiles"`
    """
    answer = post("/endpoint/policy/kill", reason=reason, policy_id=policy_id)
    if as_json:
        print_json(answer)
        return
    rows = [(each["policy_id"], each["policy_version"], each["revision"]) for each in answer["revisions"]]
    print_table("Switched off", ("policy", "version", "revision"), rows)
    typer.echo(f"frozen rollouts: {fact_text(', '.join(answer['frozen']) or None)}")


@app.command()
def rollback(
    policy_id: PolicyArgument,
    *,
    reason: WhyOption,
    to: Annotated[str, typer.Option("--to", help="The stable policy that its agents get.")] = "default",
    to_version: Annotated[
        str | None, typer.Option("--to-version", help="A version of it, such as an earlier one of the same policy.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Go back: switch the policy off, give its agents a stable one, begin again at stage 0.

    These are the steps of section 7.3 of the operations manual, and each is printed with what was done.

    Example: `eguard policy rollback mlops-rollout --reason "false positives doubled"`
    """
    answer = post(
        "/endpoint/policy/rollback", policy_id=policy_id, to_policy_id=to, to_policy_version=to_version, reason=reason
    )
    if as_json:
        print_json(answer)
        return
    rows = [(each["step"], each["state"], each["text"], _facts(each)) for each in answer["steps"]]
    print_table(f"Rollback of {policy_id}", ("step", "state", "what", "facts"), rows, numbers=False)


def _facts(step: dict[str, Any]) -> str:
    facts = {name: value for name, value in step.items() if name not in {"step", "state", "text"}}
    return "; ".join(f"{name} {fact_text(value)}" for name, value in facts.items())


def _print_rollout(seen: dict[str, Any]) -> None:
    following = seen["next_percent"]
    facts = {
        "policy": f"{seen['policy_id']} {seen['policy_version']}, revision {seen['revision']}",
        "stage": f"{seen['stage_percent']:g} % for {seen['seconds_in_stage'] / 60:.0f} min",
        "cohort": f"{seen['cohort_size']} of {seen['agents']} agents, {seen['freshness']['confirmed_revision']} have "
        "this revision",
        "next": "-" if following is None else f"{following:g} %, {seen['next_cohort_size']} agents",
        "frozen": seen["frozen_reason"] or "-",
        "switched off": "yes" if seen["is_switched_off"] else "no",
    }
    print_facts({name: fact_text(value) for name, value in facts.items()})
    _print_checks(seen["checks"])
    for cause in seen["causes"]:
        typer.echo(f"not yet: {fact_text(cause['detail'])}")


def _print_checks(checks: list[dict[str, Any]]) -> None:
    print_table(
        "Checks", ("check", "state", "why"), [(c["name"], c["state"], c["detail"]) for c in checks], numbers=False
    )

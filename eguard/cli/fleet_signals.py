"""`eguard fleet signals`: the ten signals of the operations manual, and how the alert rules stand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from eguard.cli.api import get
from eguard.cli.output import print_json, print_table, printable

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

#: The manual's ten, in its order: the name in the summary, and what people call it.
_SIGNALS: Final = (
    ("baseline_upload", "1 upload throughput"),
    ("fleet_seed", "2 seed effectiveness"),
    ("aggregation", "3 aggregation"),
    ("baseline_state", "4 baseline state"),
    ("safety", "5 safety"),
    ("js_divergence", "6 JS divergence"),
    ("adwin_alarms", "7 ADWIN alarms"),
    ("conformal_p_values", "8 conformal p-values"),
    ("high_mi_destinations", "9 high-MI destinations"),
    ("process_trees", "10 process trees"),
)
_SHOWN: Final = 160
#: What is shown of the check of scores.
_SCORES: Final = ("status", "p_value", "flagged_fraction", "martingale_log10", "rows", "hosts")


def signals(
    *,
    range_text: Annotated[str, typer.Option("--range", "-r", help="How far back: 30m, 24h, 7d.")] = "24h",
    as_json: JsonOption = False,
) -> None:
    """Show the ten signals and the alert rules: what fires, since when, by which number, and what to do.

    `unknown` is a rule whose numbers are not measured yet. Rules are judged once a minute by the task `signals`.

    Example: `eguard fleet signals --range 7d`
    """
    found = get("/endpoint/ml-ops/summary", range=range_text)
    if as_json:
        print_json(found)
        return
    rows = [(title, _text(_brief(name, found))) for name, title in _SIGNALS]
    print_table(f"Signals of {printable(found['range'])}", ("signal", "numbers"), rows, numbers=False)
    order = {"alert": 0, "unknown": 1, "ok": 2}
    alerts = sorted(found["alerts"], key=lambda each: order.get(each["state"], 1))
    table = [
        (each["state"], each["rule"], _number(each["value"]), _number(each["bound"]), _time(each["since_unix"]))
        for each in alerts
    ]
    print_table("Alert rules", ("state", "rule", "value", "bound", "since, UTC"), table, numbers=False)
    for each in alerts:
        if each["state"] == "alert":
            typer.echo(f"{printable(each['rule'])}: {printable(each['title'])}. {printable(each['remedy'])}")


def _brief(name: str, found: dict[str, Any]) -> Any:
    """Return what fits a line: of the series of divergences the latest, of rollouts how many, of scores the check."""
    value = found[name]
    if name == "conformal_p_values":
        checked = (found.get("calibration") or {}).get("health")
        return value if checked is None else {key: checked[key] for key in _SCORES if key in checked}
    if name == "js_divergence":
        return value[0] if value else "no two generations yet"
    if name == "safety":
        return {**value, "rollouts": len(value["rollouts"])}
    return "not measured" if value is None else value


def _text(value: Any) -> str:
    if isinstance(value, dict):
        text = ", ".join(f"{name} {_text(each)}" for name, each in value.items() if not isinstance(each, dict | list))
        nested = {name: each for name, each in value.items() if isinstance(each, dict | list) and each}
        text = ", ".join(
            part for part in (text, *(f"{name} {json.dumps(each)}" for name, each in nested.items())) if part
        )
        return printable(text[:_SHOWN])
    return _number(value) if isinstance(value, float) else printable(str(value if value is not None else "-"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _time(unix: float | None) -> str:
    return "-" if unix is None else datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M")

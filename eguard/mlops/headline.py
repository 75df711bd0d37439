"""The figures that `dvc metrics show` prints: a few a stage, each a small file with a value and its 95 % interval.

Reports hold hundreds of figures; a table of all of them is read by nobody. What stands here is what a change of code or
parameters is judged by. Each is taken from its stage's report and computed nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from eguard.mlops.workspace import Workspace, write_report

Report = Mapping[str, Any]
Figure = dict[str, float | None]

METRICS_FOLDER: Final = "metrics"
#: Liars, cohort and aggregator of the poisoning figure.
_LIARS, _AGENTS, _AGGREGATOR = 0.2, 50, "trimmed_median"
_DRIFT_DETECTOR: Final = "Page-Hinkley, KL of windows"


def _plain(value: float | None) -> Figure:
    """Return a figure; one that the data do not give is null."""
    return {"value": None if value is None else float(value)}


def _with_interval(figure: Mapping[str, Any], key: str = "value") -> Figure:
    """Return a figure of a report; an interval that could not be had is left out."""
    result = _plain(figure[key])
    if figure.get("interval") and None not in figure["interval"]:
        result["low"], result["high"] = map(float, figure["interval"])
    return result


def _worst_attack(report: Report) -> Figure:
    shifts = [
        row["total_variation"]
        for row in report["sweep"]
        if (row["share"], row["n_agents"], row["aggregator"]) == (_LIARS, _AGENTS, _AGGREGATOR)
    ]
    return _with_interval(max(shifts, key=lambda shift: float(shift["value"])))


def _drift(report: Report) -> Mapping[str, Any]:
    rows = {row["detector"]: row for row in report["hourly"]["network"]}
    default: Mapping[str, Any] = rows[_DRIFT_DETECTOR]["default"]["all"]
    return default


def _checked_on_other_half(report: Report) -> Mapping[str, Any]:
    reading = report["calibration"]["readings"][report["shipped_reading"]]
    rates: Mapping[str, Any] = reading["first_half_checked_on_second"]["false_alarms"]["destinations"]
    return rates


def _unseen(report: Report, name: str) -> Figure:
    return _with_interval(report["unseen_networks"]["mean_average_precision"][name])


#: Name of the metric by stage, and where it stands in the stage's report.
HEADLINES: Final[dict[str, dict[str, Callable[[Report], Figure]]]] = {
    "ingest": {"events": lambda report: _plain(sum(table["rows"] for table in report["tables"].values()))},
    "rules": {"rules": lambda report: _plain(report["rules"])},
    "replay": {"signals": lambda report: _plain(report["rows"])},
    "corpus": {"corpus_rows": lambda report: _plain(report["rows"])},
    "train": {
        "out_of_fold_average_precision": lambda report: _with_interval(report["out_of_fold"]["mean_average_precision"]),
        "operating_precision": lambda report: _plain(report["operating_point"]["precision"]),
        "operating_recall": lambda report: _plain(report["operating_point"]["recall"]),
    },
    "offline_eval": {
        "unseen_networks_average_precision": lambda report: _unseen(report, "without_floods"),
        "unseen_networks_average_precision_with_floods": lambda report: _unseen(report, "with_floods"),
        "unseen_networks_chance": lambda report: _plain(report["unseen_networks"]["mean_average_precision"]["chance"]),
        "holdout_average_precision": lambda report: _with_interval(
            report["holdout"]["without_floods"]["average_precision"]
        ),
        "gates_missed": lambda report: _plain(sum(not gate["passed"] for gate in report["gates"])),
    },
    "beacons": {
        "beacon_channels_found": lambda report: _plain(report["channels"]["n_found"][report["shipped_reading"]]),
        "beacon_channels": lambda report: _plain(report["channels"]["n_channels"]),
        "beacon_false_alarm_rate": lambda report: _with_interval(_checked_on_other_half(report), "rate"),
    },
    "drift": {
        "drift_episodes_found": lambda report: _plain(_drift(report)["found"]),
        "drift_episodes": lambda report: _plain(_drift(report)["episodes"]),
        "drift_false_alarms_per_week": lambda report: _with_interval(_drift(report)["false_alarms_per_week"]),
    },
    "poisoning": {"poison_shift_of_20_percent_liars": _worst_attack},
    "calibrate": {"simulated_false_alarm_rate": lambda report: _plain(report["coverage_simulation"].get("mean_rate"))},
    "bundle": {"promoted": lambda report: _plain(report["promoted"])},
}


def write_headlines(stage: str, report: Report, workspace: Workspace) -> None:
    """Write the metrics of a stage, if it has any, to ``reports/metrics/<name>.json``."""
    for name, take in HEADLINES.get(stage, {}).items():
        write_report(workspace.reports / METRICS_FOLDER / f"{name}.json", take(report))

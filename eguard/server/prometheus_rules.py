"""Alert rules for Prometheus, one for each rule that the server judges: ``deploy/prometheus/eguard-alerts.yml``.

The server judges, with bounds and minimum counts that no expression over its gauges could have; Prometheus reads the
judgement. Several servers on one database report the same, so that an alert takes the largest. What Prometheus alone
can see, that nobody judges any more, has alerts of its own.
"""

from __future__ import annotations

import json
import sys
from typing import Final

from eguard.server.services.alerts import RULES
from eguard.server.signal_gauges import BOUND, FIRING, LOOKED_AT, VALUE

#: Which signal of the operations manual a rule is about.
SIGNALS: Final[dict[str, int]] = {
    "upload_rejects": 1,
    "seed_effectiveness": 2,
    "aggregation": 3,
    "stale_transitions": 4,
    "safety": 5,
    "js_trend": 6,
    "adwin_alarms": 7,
    "p_values": 8,
    "high_mi_destinations": 9,
    "tree_anomalies": 10,
}
#: The thresholds that the manual recommends after its signals.
THRESHOLDS: Final[dict[str, str]] = {
    "upload_rejects": "rejects sustained for 30 min",
    "aggregation": "failures in 2 consecutive cycles",
    "stale_transitions": "spike of stale transitions",
    "seed_effectiveness": "no seed applied while there are rows",
}
#: Rules are judged every minute.
LATE_SECONDS: Final = 180


def alert_name(rule: str) -> str:
    """Return the name of a rule's alert.

    Examples
    --------
    >>> alert_name("upload_rejects")
    'EguardUploadRejects'
    """
    return "Eguard" + "".join(part.capitalize() for part in rule.split("_"))


def rules_yaml() -> str:
    """Return the file."""
    lines = [
        "# Written by `python -m eguard.server.prometheus_rules`. Do not edit: a test compares.",
        "groups:",
        "  - name: eguard-signals",
        "    rules:",
    ]
    for rule, described in RULES.items():
        numbers = " against ".join(_shown(gauge, rule) for gauge in (VALUE, BOUND))
        labels = {"severity": described.severity, "rule": rule, "signal": str(SIGNALS[rule])}
        if rule in THRESHOLDS:
            labels["threshold"] = THRESHOLDS[rule]
        lines += _alert(
            alert_name(rule),
            f'max({FIRING}{{rule="{rule}"}}) == 1',
            "0s",
            labels,
            {"summary": described.title, "description": f"{described.remedy} Measured: {numbers}."},
        )
    lines += ["  - name: eguard-measuring", "    rules:"]
    lines += _alert(
        "EguardRulesNotJudged",
        f"time() - max({LOOKED_AT}) > {LATE_SECONDS}",
        "2m",
        {"severity": "critical"},
        {
            "summary": "The alert rules are not judged",
            "description": "None of the other alerts can fire. See `eguard server task history signals --json`.",
        },
    )
    lines += _alert(
        "EguardDatabaseAway",
        "max(eguard_database_up) == 0",
        "2m",
        {"severity": "critical"},
        {
            "summary": "The fleet's database does not answer",
            "description": "Agents keep what they have. See /readyz, and docs/how-to/database.md.",
        },
    )
    lines += _alert(
        "EguardMetricsMissing",
        "absent(eguard_database_up)",
        "5m",
        {"severity": "critical"},
        {
            "summary": "No server's metrics arrive",
            "description": "Is the server running, and can Prometheus reach its administration listener?",
        },
    )
    return "\n".join(lines) + "\n"


def _shown(gauge: str, rule: str) -> str:
    return "{{ with query `max(" + gauge + '{rule="' + rule + '"})` }}{{ . | first | value }}{{ end }}'


def _alert(name: str, expression: str, wait: str, labels: dict[str, str], annotations: dict[str, str]) -> list[str]:
    lines = [f"      - alert: {name}", f"        expr: {json.dumps(expression)}", f"        for: {wait}"]
    for title, values in (("labels", labels), ("annotations", annotations)):
        lines.append(f"        {title}:")
        lines += [f"          {key}: {json.dumps(value)}" for key, value in values.items()]
    return lines


if __name__ == "__main__":
    sys.stdout.write(rules_yaml())

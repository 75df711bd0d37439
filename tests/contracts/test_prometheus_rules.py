"""The alert rules for Prometheus: as promtool reads them, on metrics of the server; each fires and is silent."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from eguard.fleet.database import Database
from eguard.server.metrics import Metrics
from eguard.server.prometheus_rules import SIGNALS, THRESHOLDS, alert_name, rules_yaml
from eguard.server.services.alerts import RULES

PLACE = Path(__file__).parents[2] / "deploy" / "prometheus" / "eguard-alerts.yml"
SECONDS = 60


def had_from_debian(folder):
    """Return promtool out of Debian's package, which is not installed; None where it cannot be had."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    fetched = subprocess.run(
        ["apt-get", "download", "-q", "prometheus"], cwd=folder, capture_output=True, timeout=SECONDS, check=False
    )
    packages = sorted(folder.glob("prometheus_*.deb"))
    if fetched.returncode or not packages:
        return None
    subprocess.run(["dpkg-deb", "-x", packages[0], folder / "out"], check=True, timeout=SECONDS)
    return folder / "out" / "usr" / "bin" / "promtool"


@pytest.fixture(scope="module")
def promtool(tmp_path_factory):
    """Run promtool; returns its output, and fails the test where promtool does."""
    program = shutil.which("promtool") or had_from_debian(tmp_path_factory.mktemp("promtool"))
    if program is None:
        pytest.skip("promtool is not installed, and Debian's package prometheus cannot be fetched")

    def run(*arguments):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_file_is_the_one_that_is_written():
    assert PLACE.read_text() == rules_yaml(), (
        "python -m eguard.server.prometheus_rules > deploy/prometheus/eguard-alerts.yml"
    )


def test_every_signal_and_every_threshold_of_the_manual_has_its_rule():
    assert sorted(SIGNALS.values()) == list(range(1, 11))
    assert set(SIGNALS) == set(RULES) >= set(THRESHOLDS)
    assert len(THRESHOLDS) == 4


def test_promtool_accepts_the_file(promtool):
    assert f"SUCCESS: {len(RULES) + 3} rules found" in promtool("check", "rules", str(PLACE))


def test_every_metric_of_a_rule_is_one_that_the_server_has(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/f.db")
    known = {metric.name for metric in Metrics(database).described}
    database.dispose()
    used = set(re.findall(r"eguard_[a-z_]+", PLACE.read_text()))
    assert used <= known
    assert used


def series(name, values, **labels):
    shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{shown}}}", "values": values}


def healthy():
    """Return an hour of a healthy server, judged every minute, with noisy numbers below their bounds."""
    found = [
        series("eguard_database_up", "1x60", instance="s1"),
        series("eguard_alerts_looked_at_timestamp_seconds", "0+60x60", instance="s1"),
    ]
    for rule in RULES:
        found.append(series("eguard_alert_firing", "0x60", rule=rule, instance="s1"))
        found.append(series("eguard_alert_value", "0 1 2 0 3 1 0 2 1 0 4x50", rule=rule, instance="s1"))
        found.append(series("eguard_alert_bound", "5x60", rule=rule, instance="s1"))
    return found


def expected(rule):
    described = RULES[rule]
    labels = {"severity": described.severity, "rule": rule, "signal": str(SIGNALS[rule])}
    if rule in THRESHOLDS:
        labels["threshold"] = THRESHOLDS[rule]
    description = f"{described.remedy} Measured: 9 against 5."
    return {"exp_labels": labels, "exp_annotations": {"summary": described.title, "description": description}}


def judge(promtool, folder, tests):
    """Run promtool's unit tests; JSON is YAML, too."""
    document = {"rule_files": [str(PLACE)], "evaluation_interval": "1m", "tests": tests}
    path = folder / "test.yml"
    path.write_text(json.dumps(document))
    promtool("test", "rules", str(path))


def asks(name, at, alerts):
    return {"eval_time": at, "alertname": name, "exp_alerts": alerts}


def test_a_healthy_server_is_silent_and_so_is_one_that_knows_nothing_yet(promtool, tmp_path):
    names = [*map(alert_name, RULES), "EguardRulesNotJudged", "EguardDatabaseAway", "EguardMetricsMissing"]
    silent = [asks(name, at, []) for name in names for at in ("5m", "59m")]
    unknown = [each for each in healthy() if "alert_firing" not in each["series"]]
    judge(
        promtool,
        tmp_path,
        [
            {"interval": "1m", "input_series": healthy(), "alert_rule_test": silent},
            {"interval": "1m", "input_series": unknown, "alert_rule_test": silent},
        ],
    )


def test_each_rule_fires_while_any_server_says_so_and_no_other_does(promtool, tmp_path):
    tests = []
    for rule in RULES:
        given = [
            *(each for each in healthy() if not each["series"].startswith("eguard_alert_value")),
            *(series("eguard_alert_value", "9x60", rule=each, instance="s1") for each in RULES),
            series("eguard_alert_firing", "0x20 1x20 0x20", rule=rule, instance="s2"),
        ]
        others = [asks(alert_name(other), "30m", []) for other in RULES if other != rule]
        own = [asks(alert_name(rule), "10m", []), asks(alert_name(rule), "30m", [expected(rule)])]
        own.append(asks(alert_name(rule), "50m", []))
        tests.append({"interval": "1m", "input_series": given, "alert_rule_test": [*own, *others]})
    judge(promtool, tmp_path, tests)


def test_what_measures_is_watched_itself(promtool, tmp_path):
    stuck = series("eguard_alerts_looked_at_timestamp_seconds", "0+60x10 600x50", instance="s1")
    away = series("eguard_database_up", "1x10 0x50", instance="s1")
    critical = {"severity": "critical"}

    def told(name):
        line = next(part for part in rules_yaml().split("- alert: ") if part.startswith(name))
        annotations = {key: json.loads(value) for key, value in re.findall(r'(summary|description): (".*")', line)}
        return [{"exp_labels": critical, "exp_annotations": annotations}]

    judge(
        promtool,
        tmp_path,
        [
            {
                "interval": "1m",
                "input_series": [stuck, away],
                "alert_rule_test": [
                    asks("EguardRulesNotJudged", "12m", []),
                    asks("EguardRulesNotJudged", "20m", told("EguardRulesNotJudged")),
                    asks("EguardDatabaseAway", "11m", []),
                    asks("EguardDatabaseAway", "20m", told("EguardDatabaseAway")),
                    asks("EguardMetricsMissing", "20m", []),
                ],
            },
            {
                "interval": "1m",
                "input_series": [series("up", "1x60", instance="s1")],
                "alert_rule_test": [
                    asks("EguardMetricsMissing", "4m", []),
                    asks("EguardMetricsMissing", "6m", told("EguardMetricsMissing")),
                ],
            },
        ],
    )

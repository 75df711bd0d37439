"""Drift of alerts in files: logs and tables, networks over several files, broken and foreign input."""

import lzma
from pathlib import Path

import numpy as np
import pytest

from eguard.errors import ConfigError
from eguard.events import EventBatch
from eguard.mlops.drift_file import drift_of_files
from eguard.mlops.drift_params import DriftParams
from eguard.mlops.tables import write_events

HEADER = "time,name,ip,host,short,time_label,event_label\n"


def lines(hours, rule="W-Sys-Cav", *, start=0, per_hour=20):
    return [
        f"{3600 * (start + hour) + 60 * i},Some alert,10.0.0.1,web{i % 2},{rule},false_positive,-\n"
        for hour in range(hours)
        for i in range(per_hour)
    ]


def scanned():
    """Two calm days, and at hour 40 a scan of two hundred alerts."""
    scan = [f"{3600 * 40 + i},Scan,10.0.0.9,web0,S-Scan,false_positive,-\n" for i in range(200)]
    return sorted([*lines(48), *scan], key=lambda line: int(line.split(",")[0]))


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "site_alerts.csv"
    path.write_text(HEADER + "".join(scanned()))
    return path


def alarms(result, detector, host=""):
    (network,) = result["networks"]
    return [
        alarm["times_unix"] for alarm in network["alarms"] if (alarm["detector"], alarm["host"]) == (detector, host)
    ]


def test_a_scan_is_told_of_at_the_end_of_its_hour(log):
    result = drift_of_files([log], DriftParams(level_cycles=(1,)))
    (network,) = result["networks"]
    assert (network["network"], network["hosts"], network["hours"], network["status"]) == ("site", 2, 48, "watched")
    assert (result["alerts"], result["without_rule"], result["rejected"], result["damage"]) == (1_160, 0, 0, [])
    assert alarms(result, "level, pinned") == [[41 * 3600.0]]
    assert alarms(result, "level, pinned", "site/web0") == [[41 * 3600.0]]
    assert alarms(result, "level, pinned", "site/web1") == []
    assert network["latest"]["pinned"]["ended_unix"] == 48 * 3600.0
    assert network["latest"]["pinned"]["excess_nats"] <= 0.0


def test_a_network_may_be_spread_over_files_and_a_table_reads_the_same(tmp_path, log):
    rows = scanned()
    parts = [tmp_path / "a" / "site_alerts.csv", tmp_path / "b" / "site_alerts.csv.xz"]
    for part in parts:
        part.parent.mkdir()
    parts[0].write_text(HEADER + "".join(rows[:500]))
    parts[1].write_bytes(lzma.compress((HEADER + "".join(rows[500:])).encode()))
    whole = drift_of_files([log], DriftParams())
    assert drift_of_files(parts, DriftParams()) == whole
    assert drift_of_files(parts[::-1], DriftParams()) == whole
    seconds, _, _, hosts, rules, *_ = zip(*(row.split(",") for row in rows), strict=True)
    table = EventBatch(
        time_unix=np.array(seconds, dtype=np.float64),
        group=["site"] * len(rows),
        host_id=[f"site/{host}" for host in hosts],
        rule_id=list(rules),
        event_class=[7] * len(rows),
    )
    write_events(tmp_path / "alerts.parquet", table)
    assert drift_of_files([tmp_path / "alerts.parquet"], DriftParams()) == whole


def test_a_network_shorter_than_its_reference_says_so(tmp_path):
    path = tmp_path / "site_alerts.csv"
    path.write_text(HEADER + "".join(lines(10)))
    (network,) = drift_of_files([path], DriftParams())["networks"]
    assert (network["status"], network["alarms"], network["latest"]) == ("too_short", [], {})


def test_a_broken_file_is_evaluated_up_to_the_damage(tmp_path):
    path = tmp_path / "site_alerts.csv.xz"
    data = lzma.compress((HEADER + "".join(scanned())).encode())
    path.write_bytes(data[: len(data) * 4 // 5])
    result = drift_of_files([path], DriftParams())
    assert len(result["damage"]) == 1
    assert path.name in result["damage"][0]
    assert 0 < result["alerts"] < 1_160


def test_input_without_rules_is_refused(tmp_path):
    path = tmp_path / "alerts.parquet"
    write_events(path, EventBatch(time_unix=np.arange(5.0), host_id=["h"] * 5, event_class=[0] * 5))
    with pytest.raises(ConfigError, match="no alert with a rule"):
        drift_of_files([path], DriftParams())


def test_alerts_without_a_rule_are_left_out_and_counted(tmp_path):
    path = tmp_path / "alerts.parquet"
    batch = EventBatch(
        time_unix=np.arange(6.0),
        group=["n"] * 6,
        host_id=["n/h"] * 6,
        rule_id=["R", "", "R", "", "", "R"],
        event_class=[7] * 6,
    )
    write_events(path, batch)
    result = drift_of_files([path], DriftParams())
    assert (result["alerts"], result["without_rule"]) == (3, 3)


def test_progress_is_told_file_by_file(log):
    told = []
    drift_of_files([log, log], DriftParams(), progress=lambda *step: told.append(step))
    assert told == [("alerts read", 0, 2), ("alerts read", 1, 2)]


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(Exception, match=r"absent\.csv") as caught:
        drift_of_files([Path(tmp_path / "absent.csv")], DriftParams())
    assert type(caught.value).__module__ == "eguard.errors"

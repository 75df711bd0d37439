"""Alerts as codes: networks, classes from the reference alone, steps of finer labels."""

import numpy as np
import pytest

from eguard.errors import ConfigError
from eguard.events import EventBatch
from eguard.mlops.drift_alerts import HOUR_SECONDS, N_CLASSES, read_networks, split_networks
from eguard.mlops.tables import write_events


def alerts(rows):
    """Rows of (time, network, host, rule, label)."""
    times, networks, hosts, rules, labels = zip(*rows, strict=True)
    return EventBatch(
        time_unix=np.array(times, dtype=np.float64),
        group=list(networks),
        host_id=list(hosts),
        rule_id=list(rules),
        label=list(labels),
        event_class=[7] * len(rows),
    )


ROWS = [
    (90_000.0, "b", "b/y", "late", "dirb"),
    (3_700.0, "b", "b/x", "R2", ""),
    (3_800.0, "b", "b/x", "R1", ""),
    (3_900.0, "b", "b/y", "R1", "service_scan"),
    (10.0, "a", "a/z", "R9", ""),
]


def test_networks_are_split_named_and_put_in_order_of_time():
    first, second = split_networks(alerts(ROWS), 24)
    assert (first.name, first.hosts, first.n_hours, first.start_unix) == ("a", ("a/z",), 1, 0.0)
    assert (second.name, second.hosts) == ("b", ("b/x", "b/y"))
    assert second.time_unix.tolist() == [3_700.0, 3_800.0, 3_900.0, 90_000.0]
    assert second.start_unix == HOUR_SECONDS
    assert second.n_hours == 25
    assert second.end_unix == 26 * HOUR_SECONDS
    assert [second.hosts[code] for code in second.host] == ["b/x", "b/x", "b/y", "b/y"]


def test_a_finer_label_counts_under_its_step():
    network = split_networks(alerts(ROWS), 24)[1]
    assert [network.steps[code] for code in network.step] == ["", "", "service_scans", "dirb"]
    assert network.steps_except(frozenset({"dirb", "wpscan"})).tolist() == [step != "dirb" for step in network.steps]


def test_classes_are_the_commonest_rules_of_the_reference_and_other():
    network = split_networks(alerts(ROWS), 24)[1]
    assert network.rule_class.tolist() == [1, 0, 0, N_CLASSES - 1]  # R1 twice, R2 once; `late` comes too late
    longer = split_networks(alerts(ROWS), 48)[1]
    assert longer.rule_class.tolist() == [1, 0, 0, 2]


def test_no_alerts_are_no_networks():
    assert split_networks(EventBatch(time_unix=np.zeros(0)), 24) == []


def test_the_table_of_the_ingest_stage_is_read_even_if_a_column_never_varies(tmp_path):
    path = tmp_path / "alerts.parquet"
    write_events(path, alerts([(float(i), "net", "net/h", "R", "") for i in range(5)]))
    (network,) = read_networks(path, 24)
    assert (network.name, network.hosts, network.steps, len(network.time_unix)) == ("net", ("net/h",), ("",), 5)


def test_a_missing_table_names_the_stage_to_run(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_networks(tmp_path / "absent.parquet", 24)

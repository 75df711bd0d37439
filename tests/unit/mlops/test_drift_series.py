"""Drift series of alerts, by hand."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from eguard.estimators import jensen_shannon_nats
from eguard.events import EventBatch
from eguard.mlops.drift_series import DAY_SECONDS, HOUR_SECONDS, SCHEMA, rule_series, write_drift_series


def alerts(times, rules, hosts=None):
    return EventBatch(time_unix=times, host_id=hosts or ["h"] * len(times), rule_id=rules, event_class=[7] * len(times))


def select(points, **wanted):
    return [point for point in points if all(getattr(point, name) == value for name, value in wanted.items())]


def test_days_are_compared_with_the_day_before_and_with_the_first():
    day = DAY_SECONDS
    times = [0, 1, 2, 3, day, day + 1, day + 2, day + 3, 2 * day, 2 * day + 1]
    rules = ["A", "A", "B", "B", "A", "A", "A", "A", "B", "B"]
    points = rule_series(alerts(times, rules), "net")
    daily = select(points, scope="network", period_seconds=day)
    half = float(jensen_shannon_nats([0.5, 0.5], [1.0, 0.0]))
    assert [(p.reference, p.time_unix, p.value) for p in daily] == [
        ("previous", 2 * day, pytest.approx(half)),
        ("pinned", 2 * day, pytest.approx(half)),
        ("previous", 3 * day, pytest.approx(np.log(2))),
        ("pinned", 3 * day, pytest.approx(half)),
    ]
    assert (daily[0].n_events, daily[0].n_reference) == (4, 4)
    assert daily[0].bias == pytest.approx(1 / 8 * (1 / 4 + 1 / 4))


def test_hosts_have_series_of_their_own():
    day = DAY_SECONDS
    times = [0, 1, day, day + 1]
    points = rule_series(alerts(times, ["A", "B", "A", "A"], ["x", "y", "x", "y"]), "net")
    by_host = {p.host_id: p.value for p in select(points, scope="host", period_seconds=day, reference="pinned")}
    assert by_host == {"x": 0.0, "y": pytest.approx(np.log(2))}


def test_an_hour_without_alerts_is_no_value():
    points = rule_series(alerts([0, 5 * HOUR_SECONDS], ["A", "A"]), "net")
    hourly = select(points, scope="network", period_seconds=HOUR_SECONDS)
    assert [(p.reference, p.time_unix) for p in hourly] == [("previous", 6 * HOUR_SECONDS)]


def test_rules_unknown_on_the_first_day_count_together():
    day = DAY_SECONDS
    times = [0, 0, day, day]
    one = rule_series(alerts(times, ["A", "B", "new", "newer"]), "net")
    other = rule_series(alerts(times, ["A", "B", "new", "new"]), "net")
    assert select(one, reference="pinned") == select(other, reference="pinned")


def test_rules_beyond_the_commonest_63_count_together():
    names = [f"r{i:03}" for i in range(80)]
    rules = [name for i, name in enumerate(names) for _ in range(80 - i)]
    day = DAY_SECONDS
    times = [0.0] * len(rules) + [day, day]
    one = rule_series(alerts(times, [*rules, "r070", "r075"]), "net")
    other = rule_series(alerts(times, [*rules, "r079", "r079"]), "net")
    assert select(one, reference="pinned") == select(other, reference="pinned")
    assert select(one, reference="pinned") != select(
        rule_series(alerts(times, [*rules, "r000", "r000"]), "net"), reference="pinned"
    )


def test_a_later_day_does_not_change_how_an_earlier_one_is_measured():
    day = DAY_SECONDS
    times, rules = [0, 1, day, 2 * day], ["A", "B", "B", "A"]
    shorter = rule_series(alerts(times[:3], rules[:3]), "net")
    longer = rule_series(alerts(times, rules), "net")
    assert set(shorter) <= set(longer)


def test_points_are_written_in_a_fixed_order(tmp_path):
    points = rule_series(alerts([0, DAY_SECONDS, DAY_SECONDS], ["A", "B", "A"], ["x", "y", "x"]), "net")
    write_drift_series(tmp_path / "a.parquet", points)
    write_drift_series(tmp_path / "b.parquet", points[::-1])
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.equals(SCHEMA)
    assert table.num_rows == len(points)


def test_no_points_make_an_empty_file(tmp_path):
    write_drift_series(tmp_path / "a.parquet", rule_series(EventBatch(), "net"))
    assert pq.read_table(tmp_path / "a.parquet").schema.equals(SCHEMA)

"""Repeated captures of one host, by hand."""

import numpy as np
import pytest

from eguard.estimators import jensen_shannon_nats
from eguard.events import EventBatch
from eguard.mlops.drift_captures import captures_of, captures_report, excess_nats


def events(captures):
    """`captures` maps (host, name) to its images; they follow one another by ten seconds in the order given."""
    times, hosts, groups, images = [], [], [], []
    for start, ((host, name), own) in enumerate(captures.items()):
        times += [1_000.0 * start + 10.0 * i for i in range(len(own))]
        hosts += [host] * len(own)
        groups += [name] * len(own)
        images += own
    n = len(times)
    return EventBatch(
        time_unix=np.array(times),
        host_id=hosts,
        group=groups,
        comm=images,
        parent_comm=[""] * n,
        event_class=np.zeros(n, dtype=np.int8),
    )


CALM = ["sh", "ls"] * 50
CAPTURES = {
    ("x", "one"): CALM,
    ("x", "two"): CALM,
    ("x", "three"): ["evil"] * 100,
    ("x", "four"): CALM,
    ("y", "one"): CALM,
}


def test_captures_of_hosts_with_enough_of_them_in_order_of_time():
    found = captures_of(events(CAPTURES), min_captures=3, min_events=10)
    assert list(found) == ["x"]
    assert [capture.name for capture in found["x"]] == ["one", "two", "three", "four"]
    assert captures_of(events(CAPTURES), min_captures=3, min_events=101) == {}
    assert captures_of(EventBatch(time_unix=np.zeros(0)), min_captures=1, min_events=1) == {}


def test_later_captures_are_compared_with_the_first_ones():
    hosts = captures_of(events(CAPTURES), min_captures=3, min_events=10)
    report, rows = captures_report(hosts, baseline_captures=2, level_nats=0.1)
    own = [row for row in rows if row["measure"] == "image"]
    assert [row["capture"] for row in own] == ["three", "four"]
    bias_to_baseline = 2 / 8 * (1 / 100 + 1 / 200)
    assert own[0]["to_baseline_nats"] == pytest.approx(np.log(2) - bias_to_baseline)
    assert own[1]["to_baseline_nats"] == pytest.approx(-1 / 8 * (1 / 100 + 1 / 200))
    assert own[1]["to_previous_nats"] == pytest.approx(np.log(2) - 2 / 8 * (2 / 100))
    image = report["measures"]["image"]
    assert image["above_level"] == 1
    assert image["to_baseline"]["n"] == 2
    assert image["halves_of_a_capture"]["largest_nats"] <= 0.0
    assert image["baselines_of_two_hosts"] is None
    assert report["measures"]["event_class"]["above_level"] == 0


def test_hosts_are_compared_with_one_another():
    captures = {(host, name): (CALM if host == "x" else ["evil"] * 100) for host in "xy" for name in ("1", "2", "3")}
    hosts = captures_of(events(captures), min_captures=3, min_events=10)
    report, _ = captures_report(hosts, baseline_captures=2, level_nats=0.1)
    assert report["measures"]["image"]["baselines_of_two_hosts"]["n"] == 1
    assert report["measures"]["image"]["baselines_of_two_hosts"]["largest_nats"] == pytest.approx(np.log(2), abs=0.01)


def test_no_hosts_are_an_empty_report():
    report, rows = captures_report({}, baseline_captures=2, level_nats=0.1)
    assert rows == []
    assert report["measures"]["image"]["to_baseline"] is None


def test_excess_is_divergence_less_bias():
    expected = float(jensen_shannon_nats([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])) - 2 / 8 * (1 / 10 + 1 / 20)
    assert excess_nats(np.array([5, 5, 0]), np.array([0, 10, 10])) == pytest.approx(expected)

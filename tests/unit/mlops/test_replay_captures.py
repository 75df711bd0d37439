"""Network captures and rule positives in replay."""

import numpy as np
import pytest

from eguard.detection.features import FEATURE_NAMES
from eguard.detection.indicator_list import make_indicator
from eguard.detection.indicators import IndicatorSet
from eguard.detection.layers import DetectionContent
from eguard.detection.rules import RuleSet
from eguard.events import Event, EventBatch, EventClass
from eguard.mlops.replay_captures import CaptureReplay, replay_positives
from eguard.mlops.replay_params import ReplayParams

DAY = 86_400.0
PORT_RISK = FEATURE_NAMES.index("dst_port_risk")


def connection(time, host, address="192.0.2.1", port=443, group="net"):
    return Event(
        time_unix=float(time), host_id=host, event_class=EventClass.NETWORK_CONNECT, group=group, source="zeek",
        destination_address=address, destination_port=port,
    )  # fmt: skip


def replay(*events, indicators=(), **params):
    content = DetectionContent(indicators=IndicatorSet([make_indicator(text, source="feed") for text in indicators]))
    settings = ReplayParams(**({"reservoir_events_per_host": 5} | params))
    return CaptureReplay(content, settings, seed=1).run(EventBatch.from_events(events))


def test_the_busiest_hosts_of_a_capture_are_replayed():
    events = [
        connection(i, host)
        for host, n in (("10.0.0.3", 4), ("10.0.0.1", 3), ("10.0.0.2", 3), ("10.0.0.9", 1))
        for i in range(n)
    ]
    rows, _, captures = replay(*events, max_hosts_per_capture=2)
    assert captures["net"]["hosts"] == 4
    assert captures["net"]["connections_replayed"] == 7
    assert set(rows.host_id) == {"net/10.0.0.3", "net/10.0.0.1"}  # equals are taken in the order of their names


def test_equal_addresses_of_two_captures_are_two_hosts():
    rows, _, _ = replay(connection(0, "10.0.0.1", group="a"), connection(0, "10.0.0.1", group="b"))
    assert rows.host_id == ["a/10.0.0.1", "b/10.0.0.1"]
    assert rows.network == ["a", "b"]


def test_an_indicator_hit_is_a_row_and_its_day_is_not_assumed_benign():
    events = [connection(i, "10.0.0.1") for i in range(3)] + [connection(3, "10.0.0.1", "198.51.100.7")]
    events += [connection(DAY + i, "10.0.0.1") for i in range(3)]
    rows, collector, _ = replay(*events, indicators=["198.51.100.7"], reservoir_events_per_host=7)
    assert dict(zip(rows.observed_at_unix.tolist(), rows.label.tolist(), strict=True)) == {
        0.0: -1, 1.0: -1, 2.0: -1, 3.0: -1, DAY: 0, DAY + 1: 0, DAY + 2: 0,
    }  # fmt: skip
    assert collector.confidences == {"definite": 1}


def test_ports_are_ranked_by_the_days_before():
    events = [connection(i, "10.0.0.1", port=443) for i in range(2)] + [connection(DAY, "10.0.0.1", port=443)]
    events.append(connection(DAY + 1, "10.0.0.1", port=31337))
    rows, _, _ = replay(*events)
    assert rows.features[:, PORT_RISK].tolist() == pytest.approx([1 / 2, 1 / 2, 1 / 3, 2 / 3])


RULE = {
    "id": "r", "title": "t", "level": "high", "status": "test", "author": "x", "path": "p", "licence": "l", "tags": [],
    "predicate": ["endswith", "Image", ["\\cmd.exe"]],
    "selector": {"product": "windows", "category": "process_creation", "service": "", "event_codes": []},
}  # fmt: skip


def positive(time, comm, rule="r"):
    return Event(
        time_unix=float(time),
        host_id="lab",
        event_class=0,
        comm=comm,
        source="sysmon",
        event_type="exec",
        rule_id=rule,
        label="attack",
    )


def test_positives_are_replayed_alone_and_all_of_them_are_rows():
    content = DetectionContent(rules=RuleSet.from_json({"format": 1, "rules": [RULE]}))
    events = EventBatch.from_events(
        [positive(0, "cmd.exe"), positive(1, "cmd.exe"), positive(2, "x.exe"), positive(3, "x.exe", "gone")]
    )
    rows, _, found = replay_positives(events, content, seed=0)
    assert (found["positives"], found["matched_by_their_rule"]) == (4, 2)
    assert (found["rules"], found["rules_that_matched"]) == (2, 1)
    assert (found["missed"], found["rule_not_loaded"]) == (["r"], ["gone"])
    assert rows.label.tolist() == [1] * 4
    assert not rows.is_reservoir.any()
    # Each on a machine that knows nothing of the one before: two matches within a minute do not add up.
    assert (
        rows.features[0, FEATURE_NAMES.index("z2_temporal_count")]
        == rows.features[1, FEATURE_NAMES.index("z2_temporal_count")]
    )


def test_no_connections_give_no_rows():
    rows, _, captures = replay()
    assert (len(rows), captures) == (0, {})
    assert rows.features.shape == (0, len(FEATURE_NAMES))
    assert np.asarray(rows.label).dtype == np.int8

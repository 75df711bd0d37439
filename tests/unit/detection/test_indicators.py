"""Matching indicators against batches."""

import numpy as np
import pytest

from eguard.detection.indicator_list import make_indicator, parse_indicators
from eguard.detection.indicators import IndicatorSet
from eguard.errors import RuleError
from eguard.events.columns import EventBatch
from eguard.events.model import Event, EventClass

HASH = "ab" * 32
KNOWN = IndicatorSet(
    parse_indicators(
        f"{HASH}\nevil.example\nbad.co.uk\n203.0.113.9\n198.51.100.0/24\n2001:db8:1::/48\n10.1.1.1:4444\n", "feed"
    )
)


def connection(address, port=443, **facts):
    return Event(
        time_unix=0.0,
        host_id=facts.pop("host_id", "pc"),
        event_class=EventClass.NETWORK_CONNECT,
        destination_address=address,
        destination_port=port,
        **facts,
    )


def query(name):
    return Event(time_unix=0.0, host_id="pc", event_class=EventClass.DNS_QUERY, target=name)


@pytest.mark.parametrize(
    ("event", "value"),
    [
        (query("evil.example"), "evil.example"),
        (query("A.B.EVIL.example."), "evil.example"),
        (query("bad.co.uk"), "bad.co.uk"),
        (connection("203.0.113.9"), "203.0.113.9"),
        (connection("::ffff:203.0.113.9"), "203.0.113.9"),
        (connection("198.51.100.77"), "198.51.100.0/24"),
        (connection("2001:db8:1:2::3"), "2001:db8:1::/48"),
        (connection("2001:0db8:0001:0:0:0:0:1"), "2001:db8:1::/48"),
        (connection("10.1.1.1", 4444), "10.1.1.1:4444"),
        (connection("192.0.2.1", target="www.evil.example"), "evil.example"),
        (connection("192.0.2.1", host_id="203.0.113.9"), "203.0.113.9"),
        (Event(time_unix=0.0, host_id="pc", event_class=0, file_sha256=HASH.upper()), HASH),
    ],
)
def test_an_indicator_is_found_with_its_source(event, value):
    batch = EventBatch.from_events([event])
    assert KNOWN.match(batch).tolist() == [True]
    assert [(hit.value, hit.source) for hit in KNOWN.hits(batch, 0)] == [(value, "feed")]


@pytest.mark.parametrize(
    "event",
    [
        query("notevil.example"),
        query("evil.example.com"),
        query("example"),
        query("co.uk"),
        query("x" * 5000 + ".evil.example"),
        query(""),
        query("\ud800"),
        connection("203.0.113.8"),
        connection("198.51.101.1"),
        connection("10.1.1.1", 443),
        connection("not an address"),
        connection(""),
        Event(time_unix=0.0, host_id="pc", event_class=0, target="evil.example"),
        Event(time_unix=0.0, host_id="203.0.113.9", event_class=0),
    ],
)
def test_what_only_resembles_an_indicator_is_not_found(event):
    batch = EventBatch.from_events([event])
    assert KNOWN.match(batch).tolist() == [False]
    assert KNOWN.hits(batch, 0) == ()


def test_a_batch_is_answered_row_by_row_also_the_second_time():
    batch = EventBatch.from_events([query("a.example"), query("evil.example"), connection("203.0.113.9")])
    for _ in range(2):
        matched = KNOWN.match(batch)
        assert matched.dtype == np.bool_
        assert matched.tolist() == [False, True, True]


def test_several_indicators_in_one_event_are_all_named():
    batch = EventBatch.from_events([connection("203.0.113.9", target="evil.example", file_sha256=HASH)])
    assert {hit.kind for hit in KNOWN.hits(batch, 0)} == {"address", "domain", "sha256"}


def test_no_indicators_match_nothing():
    assert IndicatorSet(()).match(EventBatch.from_events([query("evil.example")])).tolist() == [False]
    assert IndicatorSet(()).match(EventBatch()).shape == (0,)


def test_it_survives_the_round_trip_through_json():
    again = IndicatorSet.from_json(KNOWN.to_json())
    assert again.indicators == KNOWN.indicators
    assert again.to_json() == KNOWN.to_json()


@pytest.mark.parametrize(
    "obj",
    [
        None,
        {},
        {"format": 2, "indicators": []},
        {"format": 1, "indicators": {}},
        {"format": 1, "indicators": [1]},
        {"format": 1, "indicators": [{"kind": "domain", "value": "evil.example"}]},
        {"format": 1, "indicators": [{"kind": "domain", "value": "nodot", "source": "s"}]},
        {"format": 1, "indicators": [{"kind": "mutex", "value": "m", "source": "s"}]},
    ],
)
def test_a_malformed_file_is_refused(obj):
    with pytest.raises(RuleError):
        IndicatorSet.from_json(obj)


def test_the_order_of_a_list_does_not_matter():
    one, two = make_indicator("a.example", source="s"), make_indicator("b.example", source="s")
    assert IndicatorSet([one, two]).to_json() == IndicatorSet([two, one]).to_json()

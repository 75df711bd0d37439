"""How a stream is cut into batches changes nothing, and nothing depends on what comes later."""

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions, WindowOptions
from eguard.detection.indicator_list import make_indicator
from eguard.detection.indicators import IndicatorSet
from eguard.detection.layers import DetectionContent
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rules import RuleSet
from eguard.events import Event, EventBatch

NAMES = ["cmd.exe", "whoami.exe", "net.exe", "svchost.exe", "a.exe"]


def rule(number, image, *tactics):
    return {
        "id": f"rule-{number}",
        "title": "t",
        "level": "high",
        "status": "test",
        "author": "x",
        "path": "r.yml",
        "licence": "DRL-1.1",
        "tags": [f"attack.{tactic}" for tactic in tactics],
        "selector": {"product": "windows", "category": "process_creation", "service": "", "event_codes": []},
        "predicate": ["endswith", "Image", [image]],
    }


CONTENT = DetectionContent(
    indicators=IndicatorSet([make_indicator("198.51.100.7", source="feed")]),
    rules=RuleSet.from_json(
        {
            "format": 1,
            "rules": [rule(0, "\\whoami.exe", "discovery", "execution"), rule(1, "\\net.exe", "lateral-movement")],
        }
    ),
    prefilter=CommandLinePrefilter({"sekurlsa::": 2}),
)
OPTIONS = EngineOptions(
    reservoir_events=20,
    seed=5,
    max_processes=60,
    windows=WindowOptions(
        window_events=16,
        min_baseline_events=32,
        default_overdispersion=1.0,
        min_overdispersion_windows=99,
        drift_burn_in=3,
        drift_threshold=5.0,
    ),
)


def stream(seed, n):
    """Return a stream that touches every part of the engine: trees, windows, rules, contacts, alerts of others."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(2.0, n)).round(3)
    events = []
    for index, time in enumerate(times.tolist()):
        quiet = (index // 200) % 3 != 2  # now and then the mix of classes changes
        event_class = int(rng.choice([0, 1, 2, 3, 4, 6, 7, -1], p=[0.1, 0.05, 0.4, 0.2, 0.05, 0.05, 0.03, 0.12]))
        name = NAMES[int(rng.choice(5, p=[0.5, 0.03, 0.02, 0.4, 0.05]))]
        if not quiet and name == "svchost.exe":
            event_class = 5
        has_pid = bool(rng.random() < 0.7)
        events.append(
            Event(
                time_unix=time,
                host_id="h",
                event_class=event_class,
                comm=name,
                parent_comm="explorer.exe" if rng.random() < 0.7 else "cmd.exe",
                source="sysmon",
                event_type="exec" if event_class == 0 else "other",
                event_code=int(rng.choice([1, 4688])) if event_class == 0 else 0,
                pid=int(rng.integers(1, 30)) if has_pid else 0,
                parent_pid=int(rng.integers(1, 30)) if has_pid else 0,
                command_line="x sekurlsa::y" if rng.random() < 0.02 else "",
                target="host.example.org" if event_class == 4 else "",
                destination_address=f"198.51.100.{int(rng.integers(1, 8))}" if event_class == 3 else "",
                destination_port=443,
                sent_bytes=int(rng.integers(0, 2000)),
                rule_id="W-1" if event_class == 7 else "",
                detector="wazuh" if event_class == 7 else "",
            )
        )
    return EventBatch.from_events(events)


def replay(batch, cuts):
    """Return (features, what every candidate was, alerts, windows, engine), with positions in the whole stream."""
    engine = Engine("h", CONTENT, OPTIONS)
    features, facts, alerts, windows = [], [], [], []
    for start, stop in itertools.pairwise(cuts):
        output = engine.process(batch.slice(start, stop))
        found = output.candidates
        features.append(output.features)
        facts += zip(
            (found.positions + start).tolist(),
            found.is_fired.tolist(),
            found.is_reservoir.tolist(),
            found.keys,
            found.rules,
            found.tree.ancestors,
            strict=True,
        )
        alerts += [msgspec.json.encode(alert) for alert in output.alerts]
        windows += [
            (start + w.index, w.window_id, w.counts, w.score.level, w.score.kl_bits, w.is_held, w.recent_alarms)
            for w in output.closed_windows
        ]
    return np.concatenate(features), facts, alerts, windows, engine


def assert_same(one, other):
    assert np.array_equal(one[0], other[0])
    assert one[1:4] == other[1:4]
    assert np.array_equal(one[4].profiles.counts, other[4].profiles.counts)
    assert one[4].reservoir.sample().tolist() == other[4].reservoir.sample().tolist()
    assert list(one[4].profiles.held._windows) == list(other[4].profiles.held._windows)


@pytest.fixture(scope="module")
def whole():
    batch = stream(1, 3000)
    return batch, replay(batch, [0, len(batch)])


def test_the_stream_exercises_every_part(whole):
    _, (features, facts, alerts, windows, engine) = whole
    assert len(alerts) > 30
    assert {level for *_, level, _, _, _ in windows} >= {-1, 0, 2}
    assert any(held for *_, held, _ in windows)
    assert any(recent for *_, recent in windows)
    assert len(engine.tree) == OPTIONS.max_processes
    varying = (features != features[0]).any(axis=0)
    assert varying[[0, 1, 2, 3, 4, 6, 12, 13, 23, 26, 27, 28, 29, 30, 33, 34, 36, 37, 38, 39]].all()
    assert len(facts) == len(features)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 2999), max_size=40, unique=True).map(sorted))
def test_any_cut_into_batches_gives_the_same(whole, cuts):
    batch, reference = whole
    assert_same(replay(batch, [0, *cuts, len(batch)]), reference)


def test_single_events_give_the_same_as_one_batch(whole):
    batch, _ = whole
    short = batch.slice(0, 900)
    assert_same(replay(short, list(range(901))), replay(short, [0, 900]))


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 2998), st.integers(0, 2**32 - 1))
def test_what_comes_later_changes_nothing_earlier(whole, now, seed):
    batch, reference = whole
    order = np.concatenate([np.arange(now), now + np.random.default_rng(seed).permutation(len(batch) - now)])
    times = batch.time_unix
    shuffled = batch.take(order)
    shuffled.time_unix = times  # other events at the same instants
    changed = replay(shuffled, [0, len(batch)])
    earlier = [row for row, fact in enumerate(reference[1]) if fact[0] < now]
    assert np.array_equal(changed[0][: len(earlier)], reference[0][: len(earlier)])
    assert changed[1][: len(earlier)] == [reference[1][row] for row in earlier]
    closed = [window for window in reference[3] if window[0] < now]
    assert changed[3][: len(closed)] == closed

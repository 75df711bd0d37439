"""Detection in several processes gives what one process gives: every answer, every count, every sequence number."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.agent.shards.stage import ShardedStage
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions, WindowOptions
from eguard.detection.indicator_list import make_indicator
from eguard.detection.indicators import IndicatorSet
from eguard.detection.layers import DetectionContent
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rules import RuleSet
from eguard.events import Event, EventBatch

NAMES = ["cmd.exe", "whoami.exe", "net.exe", "svchost.exe", "bad\udc80name", "a.exe", "b.exe"]
N_EVENTS = 2400
OPTIONS = EngineOptions(
    max_profiles=10,
    reservoir_events=20,
    seed=5,
    max_processes=60,
    windows=WindowOptions(
        window_events=16,
        min_baseline_events=32,
        default_overdispersion=1.0,
        min_overdispersion_windows=6,
        drift_burn_in=3,
        drift_threshold=4.0,
        relearns_after_drift=True,
        session="s1-",
    ),
)


def rule(number, level, test):
    return {
        "id": f"rule-{number}",
        "title": "t",
        "level": level,
        "status": "test",
        "author": "x",
        "path": "r.yml",
        "licence": "DRL-1.1",
        "tags": ["attack.execution", "attack.t1059"],
        "selector": {"product": "windows", "category": "process_creation", "service": "", "event_codes": []},
        "predicate": test,
    }


def content(*images):
    rules = [rule(number, "high", ["endswith", "Image", [image]]) for number, image in enumerate(images)]
    rules.append(rule(90, "informational", ["contains", "CommandLine", ["sekurlsa"]]))
    rules.append(rule(91, "medium", ["equals", "OriginalFileName", ["odd.exe"]]))
    return DetectionContent(
        indicators=IndicatorSet([make_indicator("198.51.100.7", source="feed")]),
        rules=RuleSet.from_json({"format": 1, "rules": rules}),
        prefilter=CommandLinePrefilter({"sekurlsa::": 2}),
    )


FIRST = content("\\whoami.exe", "\\net.exe")
SECOND = content("\\a.exe")


def stream(seed):
    """Return a stream whose keys come and go, change their ways, step back in time, and do evil now and then."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(2.0, N_EVENTS)).round(3)
    times[rng.random(N_EVENTS) < 0.01] -= 50.0
    events = []
    for index, time in enumerate(times.tolist()):
        age = index // 600
        event_class = int(rng.choice([0, 1, 2, 3, 4, 6, 7, -1], p=[0.1, 0.05, 0.4, 0.2, 0.05, 0.05, 0.03, 0.12]))
        name = NAMES[int(rng.choice(7, p=[0.3, 0.01, 0.01, 0.38, 0.2, 0.05, 0.05]))]
        if age % 2 and name in {"svchost.exe", NAMES[4]}:
            event_class = 5
        parent = ["explorer.exe", "cmd.exe", f"p{age}"][int(rng.choice(3, p=[0.93, 0.05, 0.02]))]
        has_fields = event_class == 0 and rng.random() < 0.2
        events.append(
            Event(
                time_unix=time,
                host_id="h",
                event_class=event_class,
                comm=name,
                parent_comm=parent,
                source="sysmon",
                event_type="exec" if event_class == 0 else "other",
                event_code=1 if event_class == 0 else 0,
                pid=int(rng.integers(1, 30)),
                parent_pid=int(rng.integers(1, 30)),
                command_line=f"x sekurlsa::{index}" if rng.random() < 0.02 else "",
                target="host.example.org" if event_class == 4 else "",
                destination_address=f"198.51.100.{int(rng.integers(1, 8))}" if event_class == 3 else "",
                destination_port=443,
                sent_bytes=int(rng.integers(0, 2000)),
                received_bytes=int(rng.integers(0, 2)),
                rule_id="W-1" if event_class == 7 else "",
                detector="wazuh" if event_class == 7 else "",
                fields={"OriginalFileName": "odd.exe", "Image": f"C:\\{name}"} if has_fields else None,
            )
        )
    return EventBatch.from_events(events)


STREAMS = {seed: stream(seed) for seed in (1, 2)}


def interlude(engine, kind, number, now):
    """Do between two batches what an agent does there."""
    if kind == "settle":
        return engine.settle(now - 60.0)
    if kind == "swap":
        engine.swap(content=SECOND if engine.loaded.content is FIRST else FIRST)
    elif kind == "seed":
        means = np.random.default_rng(number).dirichlet(np.ones(8), 3)
        keys = [("cmd.exe", "explorer.exe"), ("svchost.exe", "fleet"), ("b.exe", "cmd.exe")]
        engine.profiles.seed(dict(zip(keys[number % 2 :], means, strict=False)), number + 1)
    elif kind == "relearn":
        settled = engine.settle(now)  # of open windows, whose keys then begin anew
        for slot in settled[:2]:
            engine.profiles.relearn(slot, now)
        return settled
    elif kind == "adjudicate":
        for window_id, _ in engine.profiles.held.items()[:2]:
            engine.profiles.adjudicate(window_id, is_benign=number % 2 == 0)
    elif kind == "overdispersion":
        engine.windows.test.fleet_overdispersion = 1.0 + number % 3
    elif kind == "forget times":
        engine.forget_times()
    return None


KINDS = ["settle", "swap", "seed", "relearn", "adjudicate", "overdispersion", "forget times"]


def facts(output):
    """Return everything that a batch gave, in a form that compares by value."""
    found, windows = output.candidates, output.closed_windows
    return (
        output.features.tobytes(),
        [repr(alert) for alert in output.alerts],
        [repr(window) for window in windows],
        # `index` is a position in the batch that closed the window: of an earlier one it says nothing.
        [repr(window and replace(window, index=0)) for window in found.windows],
        (found.positions.tolist(), found.is_fired.tolist(), found.keys, found.rules, found.window_ids),
        (found.level.tolist(), found.alarm_count.tolist(), found.signature_count.tolist()),
        (list(output.hits.rules.items()), list(output.hits.enrichment.items())),
        [getattr(output.hits, name).tobytes() for name in ("has_indicator", "signature_count", "is_alert", "has_rule")],
        output.slots.tolist(),
        len(output.drift_alarms),
    )


def state(engine):
    """Return everything that an engine has learned and holds back."""
    profiles = engine.profiles
    columns = profiles.learning_columns() | {name: getattr(profiles, name) for name in ("seq", "dirty_since")}
    held = [(name, window.key, window.counts.tolist(), window.held_at) for name, window in profiles.held.items()]
    totals = (profiles.sequence, profiles.clock_steps_total, profiles.evictions_total, profiles.untracked_events_total)
    return {name: column.tobytes() for name, column in columns.items()}, held, totals, engine.windows.windows_closed


def replay(batch, plan, n_shards):
    """Return the facts of every batch, with what the interludes said, and the state after each."""
    engine = Engine("h", FIRST, OPTIONS)
    if n_shards:
        engine.stage = ShardedStage.start(n_shards, FIRST, OPTIONS, engine.profiles, engine.windows)
    told, states = [], []
    try:
        for number, ((start, kind), (stop, _)) in enumerate(itertools.pairwise([*plan, (len(batch), "")])):
            told.append(interlude(engine, kind, number, float(batch.time_unix[max(start - 1, 0)])))
            output = engine.process(batch.slice(start, stop))
            told.append(facts(output))
            states.append(state(engine))
    finally:
        engine.stage.close()
    assert state(engine) == states[-1]  # closing changes nothing
    return told, states, engine


def plan_of(cuts, seed):
    kinds = np.random.default_rng(seed).permutation(KINDS * (len(cuts) // len(KINDS) + 1)).tolist()
    return [(0, ""), *zip(cuts, kinds, strict=False)]


#: Large batches, and small ones in which most shards have nothing to do.
FULL_PLAN = plan_of([*range(90, 700, 90), *range(700, 900, 2), *range(900, N_EVENTS, 90)], 3)


@pytest.fixture(scope="module")
def alone():
    return replay(STREAMS[1], FULL_PLAN, 0)


def test_the_plan_exercises_every_part(alone):
    told, _, engine = alone
    windows = "".join(window for batch in told[1::2] for window in batch[2])
    assert "WindowLevel.HIGH" in windows
    assert "is_held=True" in windows
    assert "drift_alarm=True" in windows
    assert "rate_alarm=True" in windows
    assert any(f"archived=({digit}" in windows for digit in "123456789")
    assert any(slots for slots in told[::2] if slots)  # some settling learned
    assert sum(len(batch[1]) for batch in told[1::2]) > 20
    assert any(items[1] for batch in told[1::2] for items in [batch[6]])
    assert engine.profiles.evictions_total > 10
    assert engine.profiles.untracked_events_total > 0
    assert engine.profiles.clock_steps_total > 0
    assert len(engine.profiles.held) > 0
    assert {kind for _, kind in FULL_PLAN[1:]} == set(KINDS)


@pytest.mark.parametrize("n_shards", [2, 3])
def test_any_number_of_shards_gives_what_one_process_gives(alone, n_shards):
    told, states, _ = replay(STREAMS[1], FULL_PLAN, n_shards)
    for number, (ours, theirs) in enumerate(zip(told, alone[0], strict=True)):
        assert ours == theirs, f"step {number}"
    assert states == alone[1]


@settings(max_examples=2, deadline=None)
@given(st.lists(st.integers(1, N_EVENTS - 1), min_size=1, max_size=30, unique=True), st.integers(0, 99))
def test_any_cut_and_any_interludes_give_what_one_process_gives(cuts, seed):
    plan = plan_of(sorted(cuts), seed)
    told, states, _ = replay(STREAMS[2], plan, 1 + seed % 2)
    reference = replay(STREAMS[2], plan, 0)
    assert told == reference[0]
    assert states == reference[1]

"""The sharded stage beside the local one: the way in, a new fleet generation, and what cannot be sent."""

import numpy as np
import pytest

from eguard.agent.shards.stage import ShardedStage, make_stage
from eguard.baseline import BaselineStore
from eguard.clock import SimulatedClock
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions, WindowOptions
from eguard.detection.layer_stage import LocalStage
from eguard.detection.layers import DetectionContent
from eguard.detection.rules import RuleSet
from eguard.errors import ConfigError, RuleError, ShardLostError
from eguard.events import EventBatch

OPTIONS = EngineOptions(max_profiles=64, windows=WindowOptions(window_events=8, min_baseline_events=16))
KEYS = [(f"k{number}", "p") for number in range(40)]


def batch(number):
    """Return a batch in which every key closes a window."""
    n = 8 * len(KEYS)
    return EventBatch(
        time_unix=1000.0 * number + np.arange(n),
        event_class=np.arange(n) % 8,
        comm=[KEYS[at % len(KEYS)][0] for at in range(n)],
        parent_comm=["p"] * n,
    )


def test_one_shard_is_the_engines_own_stage():
    engine = Engine("h", options=OPTIONS)
    stage = engine.stage
    assert make_stage(engine, OPTIONS, 1) is stage
    assert isinstance(stage, LocalStage)


def test_shards_are_refused_where_descriptors_cannot_be_handed_over(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    engine = Engine("h", options=OPTIONS)
    with pytest.raises(ConfigError, match="2 detection shards") as raised:
        make_stage(engine, OPTIONS, 2)
    assert raised.value.remedy == "Set EGUARD_DETECTION_SHARDS=1."


def test_a_new_generation_reaches_all_shards_between_two_batches():
    engine = Engine("h", options=OPTIONS)
    engine.stage = make_stage(engine, OPTIONS, 2)
    try:
        assert isinstance(engine.stage, ShardedStage)
        seen, versions = [], []
        for number in range(1, 6):
            mean = np.full(8, 0.04)
            mean[number] = 0.72
            engine.profiles.seed(dict.fromkeys(KEYS, mean), number)
            output = engine.process(batch(number))
            versions.append(engine.stage.version)
            seen.append({int(np.argmax(window.score.expected)) for window in output.closed_windows})
            assert len(output.closed_windows) == len(KEYS)
            # The seed outweighs the few events of a key: its class leads everywhere or the generation was torn.
            assert seen[-1] == {number}
        assert versions == [2, 3, 4, 5, 6]
        nothing = engine.process(EventBatch())
        assert (nothing.closed_windows, len(nothing.candidates), nothing.slots.tolist()) == ([], 0, [])
    finally:
        engine.stage.close()


def test_rules_without_a_file_are_refused_before_anything_starts():
    read = RuleSet.from_json({"format": 1, "rules": []})
    assert read.packed
    made = DetectionContent(rules=RuleSet([(None, None, None)]))
    engine = Engine("h", options=OPTIONS)
    with pytest.raises(RuleError, match="rule file"):
        ShardedStage.start(2, made, OPTIONS, engine.profiles, engine.windows)


@pytest.mark.parametrize("program", ["/bin/false", "/no/such/program"], ids=["ends-at-once", "is-not-there"])
def test_shards_that_do_not_start_leave_the_engine_as_it_was(monkeypatch, program):
    engine = Engine("h", options=OPTIONS)
    engine.profiles.counts[3] = 7
    monkeypatch.setattr("sys.executable", program)
    with pytest.raises(ShardLostError):
        make_stage(engine, OPTIONS, 2)
    assert engine.profiles.counts[3].tolist() == [7] * 8
    engine.process(batch(1))
    assert len(engine.windows.serials) == 64


def test_a_store_keeps_what_shards_learn_as_it_keeps_what_one_process_learns(tmp_path):
    reopened = []
    for n_shards in (1, 2):
        folder = tmp_path / str(n_shards)
        with BaselineStore.open(folder, OPTIONS.max_profiles, SimulatedClock(0.0)) as store:
            engine = Engine("h", options=OPTIONS, profiles=store.table)
            engine.stage = make_stage(engine, OPTIONS, n_shards)
            try:
                for number in range(1, 4):
                    store.record(engine.process(batch(number)).slots)
                    store.seed(dict.fromkeys(KEYS[:5], np.full(8, 0.125)), number)
                store.record(engine.process(batch(4).slice(0, 100)).slots)
                store.touch(engine.settle(1e9))
                store.compact()
            finally:
                engine.stage.close()
        with BaselineStore.open(folder, OPTIONS.max_profiles, SimulatedClock(0.0)) as store:
            assert store.table.sample_count.sum() == 3 * 8 * len(KEYS) + 100
            reopened.append({name: column.tobytes() for name, column in store.table.learning_columns().items()})
            reopened[-1]["seq"] = store.table.seq.tobytes()
    assert reopened[0] == reopened[1]

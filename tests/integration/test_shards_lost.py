"""Detection shards that die, hang or outlive their agent, with real processes and real signals."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from eguard.agent.shards import process as process_module
from eguard.agent.shards.crew import ATTEMPTS
from eguard.agent.shards.messages import ForgetTimes, encode
from eguard.agent.shards.stage import ShardedStage
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions, WindowOptions
from eguard.detection.layers import DetectionContent
from eguard.errors import ShardLostError
from eguard.events import EventBatch

OPTIONS = EngineOptions(
    max_profiles=16,
    reservoir_events=0,
    windows=WindowOptions(window_events=16, min_baseline_events=32, default_overdispersion=1.0),
)
CONTENT = DetectionContent()


def batch(seed, n=400):
    rng = np.random.default_rng(seed)
    return EventBatch(
        time_unix=1000.0 * seed + np.arange(n),
        event_class=rng.choice(8, size=n, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02]),
        comm=[f"key{number}" for number in rng.integers(8, size=n)],
        parent_comm=["init"] * n,
        sent_bytes=rng.integers(0, 900, n),
    )


@pytest.fixture
def start():
    stages = []

    def start(n_shards=2, content=CONTENT, **settings):
        engine = Engine("h", content, OPTIONS)
        stage = ShardedStage.start(n_shards, content, OPTIONS, engine.profiles, engine.windows, **settings)
        engine.stage = stage
        stages.append(stage)
        return engine, stage

    yield start
    for stage in stages:
        stage.close()


def alone():
    return Engine("h", CONTENT, OPTIONS)


def lose(engine, slots):
    """Do to an engine in one process what the loss of a shard with these slots does."""
    engine.windows.forget(slots)
    engine.windows.serials[slots] += 1


def assert_same_learning(engine, other):
    ours, theirs = engine.profiles, other.profiles
    for name, column in ours.learning_columns().items():
        assert column.tobytes() == theirs.learning_columns()[name].tobytes(), name
    assert ours.seq.tolist() == theirs.seq.tolist()
    assert ours.clock_steps_total == theirs.clock_steps_total
    assert [name for name, _ in ours.held.items()] == [name for name, _ in theirs.held.items()]
    assert engine.windows.serials.tolist() == other.windows.serials.tolist()


def facts(output):
    return [repr(window) for window in output.closed_windows]


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def descriptors(pid):
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found[link.name] = str(link.readlink())
    return found


def wait_until(condition, seconds=10.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def test_a_killed_shard_is_replaced_and_only_its_open_windows_are_lost(start):
    (engine, stage), other = start(), alone()
    assert facts(engine.process(batch(1))) == facts(other.process(batch(1)))
    pids, slots = stage.pids, stage._router.slots_of(1)
    open_before = sum(any(other.windows.open_counts(slot)) for slot in slots.tolist())
    waiting = sum(sum(other.windows.open_counts(slot)) for slot in slots.tolist())
    os.kill(pids[1], signal.SIGKILL)
    lose(other, slots)
    with capture_logs() as logs:
        assert facts(engine.process(batch(2))) == facts(other.process(batch(2)))
    assert_same_learning(engine, other)
    (lost,) = logs
    assert (lost["event"], lost["shard"], lost["pid"], lost["exit_code"]) == ("detection shard lost", 1, pids[1], -9)
    assert (lost["windows_lost"], lost["events_lost"]) == (open_before, waiting) != (0, 0)
    assert (stage.losses.shards, stage.losses.windows, stage.losses.events) == (1, open_before, waiting)
    assert stage.pids[0] == pids[0]
    assert stage.pids[1] != pids[1]
    assert is_gone(pids[1])
    assert facts(engine.process(batch(3))) == facts(other.process(batch(3)))
    assert engine.settle(1e9) == other.settle(1e9)
    assert_same_learning(engine, other)


def test_a_shard_killed_while_it_works_learns_nothing_twice(start):
    (engine, stage), other = start(), alone()
    engine.process(batch(1))
    other.process(batch(1))
    os.kill(stage.pids[0], signal.SIGSTOP)
    killer = threading.Timer(0.2, os.kill, (stage.pids[0], signal.SIGKILL))
    killer.start()
    lose(other, stage._router.slots_of(0))
    assert facts(engine.process(batch(2))) == facts(other.process(batch(2)))
    killer.join()
    assert_same_learning(engine, other)


def test_what_a_shard_wrote_before_it_died_without_an_answer_is_taken_back(start):
    (engine, stage), other = start(1), alone()
    engine.process(batch(1))
    other.process(batch(1))
    process, written = stage._crew._shards[0].process, []
    before = stage._block.columns["counts"].sum()

    def receive():
        type(process).receive(process)  # all is learned by now, but nobody hears of it
        written.append(stage._block.columns["counts"].sum() - before)
        raise ShardLostError("gone", reason="gone")

    process.receive = receive
    lose(other, stage._router.slots_of(0))
    assert facts(engine.process(batch(2))) == facts(other.process(batch(2)))
    assert written[0] > 0
    assert_same_learning(engine, other)


def test_a_shard_that_hangs_is_replaced_in_time(start):
    (engine, stage), other = start(1), alone()
    engine.process(batch(1))
    other.process(batch(1))
    hanging = stage.pids[0]
    for shard in stage._crew._shards:
        shard.process._connection.settimeout(0.5)
    os.kill(hanging, signal.SIGSTOP)
    lose(other, stage._router.slots_of(0))
    with capture_logs() as logs:
        assert facts(engine.process(batch(2))) == facts(other.process(batch(2)))
    assert_same_learning(engine, other)
    assert (logs[0]["reason"], logs[0]["exit_code"]) == ("did not answer in time", -9)
    assert is_gone(hanging)


def test_shards_that_cannot_be_replaced_end_detection_with_a_remedy(start, monkeypatch):
    engine, stage = start(1)
    engine.process(batch(1))
    monkeypatch.setattr(process_module.sys, "executable", "/bin/false")
    os.kill(stage.pids[0], signal.SIGKILL)
    with capture_logs() as logs, pytest.raises(ShardLostError, match=f"{ATTEMPTS} processes") as raised:
        engine.process(batch(2))
    assert "EGUARD_DETECTION_SHARDS" in raised.value.remedy
    assert [log["exit_code"] for log in logs] == [-9, 1, 1]


def test_an_answer_for_another_version_is_no_answer(start):
    (engine, stage), other = start(1), alone()
    engine.process(batch(1))
    other.process(batch(1))
    shard = stage._crew._shards[0].process
    shard.send(encode(ForgetTimes(stage.version, [])))  # an answer that nobody fetches
    assert select.select([shard._connection], [], [], 10.0)[0]
    lose(other, stage._router.slots_of(0))
    with capture_logs() as logs:
        assert facts(engine.process(batch(2))) == facts(other.process(batch(2)))
    assert logs[0]["reason"] == "answered late"
    assert_same_learning(engine, other)


def test_closing_ends_every_shard_soon_and_gives_everything_back(start):
    before = descriptors("self")
    engine, stage = start()
    engine.process(batch(1))
    pids, counts = stage.pids, engine.profiles.counts.copy()
    os.kill(pids[0], signal.SIGSTOP)
    began = time.monotonic()
    stage.close()
    assert time.monotonic() - began < 5.0
    assert all(map(is_gone, pids))
    with pytest.raises(ChildProcessError):  # waited for: no zombie is left
        os.waitpid(pids[0], os.WNOHANG)
    assert engine.profiles.counts.tolist() == counts.tolist()
    engine.profiles.relearn(0, 5.0)  # the arrays are the table's own again
    assert descriptors("self") == before
    stage.close()


def test_an_agent_that_is_killed_leaves_no_shard_and_no_memory_behind(tmp_path):
    script = tmp_path / "agent.py"
    script.write_text(
        textwrap.dedent("""
        import time
        from eguard.agent.shards.stage import ShardedStage
        from eguard.detection.engine import Engine
        from eguard.detection.engine_options import EngineOptions
        engine = Engine("h")
        stage = ShardedStage.start(2, engine.loaded.content, EngineOptions(), engine.profiles, engine.windows)
        print("pids", *stage.pids, flush=True)
        time.sleep(60)
        """)
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as agent:
        pids = next([int(word) for word in line.split()[1:]] for line in agent.stdout if line.startswith("pids"))
        assert len(pids) == 2
        assert not any(map(is_gone, pids))
        # Memory without a name goes with the last process that has it.
        assert "/memfd:eguard-profiles (deleted)" in descriptors(pids[0]).values()
        assert "/dev/shm" not in Path(f"/proc/{pids[0]}/maps").read_text()
        os.kill(pids[0], signal.SIGTERM)  # as a service manager does to the whole group: the agent decides
        os.kill(pids[1], signal.SIGINT)
        time.sleep(0.2)
        assert not any(map(is_gone, pids))
        agent.kill()
    assert wait_until(lambda: all(map(is_gone, pids)))

"""The agent's loop, put together from real parts: what is kept, learned and shown, and what goes on after failures."""

import contextlib
import errno
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from assembled_agent import BAD, T0, AssembledAgent, ScriptedSensor, contact, events

from eguard.baseline.archive import BaselineArchive
from eguard.baseline.store_dump import read_store
from eguard.errors import AlertBufferError, SensorUnavailableError

YEARS = 10 * 365 * 86_400.0


@pytest.fixture
def agents(tmp_path):
    """Make agents on one state folder; all are closed at the end."""
    made = []

    def make(**given):
        agent = AssembledAgent(Path(tmp_path), **given)
        made.append(agent)
        return agent

    yield make
    for agent in made:
        agent.close()


def bad_contact(at):
    return events(1, at, 3, "evil", destination_address=[BAD], destination_port=[443])


def test_an_alert_is_kept_before_it_is_shown_and_carries_its_reasons(agents):
    agent = agents()
    agent.runtime.outlet._show = lambda alert: agent.shown.append((alert, agent.buffer.counts().waiting))
    agent.feed(bad_contact(T0))
    ((alert, waiting),) = agent.shown
    assert waiting == 1
    assert alert.confidence == "definite"
    assert alert.reasons == (f"indicator {BAD} (feed)",)
    assert alert.response == "alert_only"  # the baseline is being learned
    (kept,) = agent.buffer.oldest(10)
    assert json.loads(kept.body)["alert_id"] == alert.alert_id


def test_after_its_learning_window_alerts_ask_for_a_response_also_after_a_restart(agents):
    agent = agents(learning_seconds=100.0)
    agent.feed(events(1, T0))
    agent.wait(120.0, steps=3)
    agent.feed(bad_contact(T0 + 121))
    assert agent.shown[-1].response == "respond"
    agent.close()
    again = agents(learning_seconds=100.0)
    again.feed(bad_contact(T0 + 130))
    assert again.shown[-1].response == "respond"


def test_what_is_learned_is_on_the_disk_a_second_later_without_closing(agents, tmp_path, monkeypatch):
    agent = agents()
    agent.feed(events(32, T0))
    monkeypatch.setattr("eguard.baseline.store.MAX_WAITING_SECONDS", 0.0)
    agent.wait(1.0)
    found, report = read_store(tmp_path / "baseline")
    assert report["is_sound"]
    assert found.table.sample_count.sum() == 32


def test_events_of_open_windows_are_learned_after_a_while_and_at_the_end(agents):
    agent = agents(settle_seconds=100.0)
    agent.feed(events(5, T0))
    assert agent.learned() == 0
    agent.runtime._settle_seconds = 100.0
    agent.wait(240.0, steps=4)
    assert agent.learned() == 5
    agent.feed(events(3, agent.clock.now()))
    agent.runtime.finish()
    agent.close()
    assert agents().learned() == 8


def test_a_window_with_an_indicator_is_held_until_a_verdict_and_dropped_after_its_time(agents):
    agent = agents(held_seconds=1000.0)
    agent.feed(events(16, T0, 3, "evil", destination_address=[BAD] + ["192.0.2.5"] * 15, destination_port=[443] * 16))
    assert agent.learned("evil") == 0
    assert len(agent.baseline.table.held) == 1
    window = agent.shown[0].window_id
    agent.close()
    again = agents(held_seconds=1000.0)  # the verdict comes after a restart
    assert again.baseline.store.adjudicate(window, is_benign=True)
    assert again.learned("evil") == 16
    again.feed(events(16, T0 + 50, 3, "evil", destination_address=[BAD] * 16, destination_port=[443] * 16))
    again.wait(1500.0, steps=3)
    assert len(again.baseline.table.held) == 0
    assert again.baseline.table.held.dropped_events_total == 16
    assert again.learned("evil") == 16


def test_a_drift_alarm_archives_the_key_and_learns_it_anew(agents, tmp_path):
    agent = agents()
    rng = np.random.default_rng(3)
    for turn in range(60):
        classes = rng.choice([0, 2], 16, p=[0.1, 0.9]) if turn < 40 else rng.choice([1, 4, 5], 16)
        agent.feed(events(16, T0 + turn, event_class=classes))
    archived = list(BaselineArchive(tmp_path / "baseline-archive.jsonl").read())
    assert agent.runtime.totals.keys_relearned == len(archived) >= 1
    assert {line.process_key for line in archived} == {"sh:cron"}
    before = agent.baseline.table.counts.copy()
    agent.close()
    again = agents()
    assert np.array_equal(again.baseline.table.counts, before)
    assert not np.isnan(again.baseline.table.relearn_since[0])


@pytest.mark.parametrize("step", [YEARS, -YEARS], ids=["forward", "back"])
def test_setting_the_clock_by_ten_years_blinds_nothing_and_ends_no_window(agents, step):
    agent = agents(learning_seconds=86_400.0)
    for _ in range(12):
        agent.feed(contact(agent.clock.now() + 10.0), seconds=10.0)
    agent.clock.pass_time(1.0, step=step)
    agent.wait(20.0)
    assert agent.runtime.totals.clock_steps == 1
    assert agent.baseline.lifecycle.status.name == "LEARNING"
    for _ in range(25):
        agent.feed(contact(agent.clock.now() + 10.0), seconds=10.0)
    assert [alert.reasons for alert in agent.shown] == [("beacon to 192.0.2.1:443",)]
    agent.feed(bad_contact(agent.clock.now()))
    assert agent.shown[-1].confidence == "definite"
    agent.wait(86_400.0, steps=3)
    assert agent.baseline.lifecycle.status.name == "ACTIVE"


def test_a_disk_that_fails_stops_no_detection_and_the_store_is_opened_again(agents, monkeypatch):
    agent = agents()
    agent.feed(events(32, T0))
    agent.baseline.store.sync()
    files, machine = agent.baseline.store._files, agent.baseline._machine

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    agent.feed(events(16, T0 + 1))
    agent.baseline._tried(agent.baseline.store.sync)
    assert not agent.baseline.is_working
    agent.feed(bad_contact(T0 + 2), events(16, T0 + 3))
    assert agent.shown[-1].confidence == "definite"
    assert agent.learned() >= 48  # it goes on in memory
    assert not agent.baseline.reopened()  # too early
    monkeypatch.setattr(machine, "monotonic", lambda: agent.baseline._broken_at + 31.0)
    store = agent.baseline.store
    folder = agent.settings.baseline_folder
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")
    agent.wait(0.25)
    assert not agent.baseline.is_working  # a folder that is a link is refused
    assert agent.baseline.store is store
    folder.unlink()
    folder.with_name("elsewhere").rename(folder)
    agent.wait(0.25)
    assert agent.baseline.is_working
    assert agent.learned() == 32  # what was acknowledged, and nothing else
    assert agent.runtime.engine.profiles is agent.baseline.table
    agent.feed(events(16, T0 + 60))
    assert agent.learned() == 48
    agent.close()
    assert agents().learned() == 48


def test_a_sensor_that_fails_is_opened_again(agents):
    second = ScriptedSensor(bad_contact(T0 + 5))
    answers = [SensorUnavailableError("gone"), second]

    def reopen():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    first = ScriptedSensor(events(1, T0), OSError(errno.EIO, "ring buffer"))
    agent = agents(sensor=first, reopen=reopen)
    agent.wait(0.2, steps=2)
    assert not agent.runtime.sensing.is_working
    assert first.closed == 1
    agent.wait(1.5)  # fails again, and waits longer
    agent.wait(1.5)
    assert answers == [second]
    agent.wait(1.0)
    assert agent.runtime.sensing.is_working
    assert agent.shown[-1].confidence == "definite"
    assert agent.runtime.sensing.failures_total == 1


def test_a_broken_buffer_stops_no_detection(agents, monkeypatch):
    agent = agents()

    def fail(_):
        raise AlertBufferError("the disk is full", reason="disk_full")

    monkeypatch.setattr(agent.buffer, "append", fail)
    agent.feed(bad_contact(T0), bad_contact(T0 + 1))
    assert len(agent.shown) == 2
    assert agent.runtime.outlet.unkept_total == 2


def test_the_loop_ends_with_its_time_with_its_recording_and_when_it_is_told(agents):
    agent = agents(sensor=ScriptedSensor(events(3, T0)))
    agent.sensor.poll = lambda timeout: agent.clock.pass_time(timeout) or events(1, agent.clock.now())
    agent.runtime.run(agent.stop, duration_seconds=2.0)
    assert agent.runtime.totals.batches == 8
    assert agent.learned() == 8  # what open windows held was learned at the end
    agent.stop.set()
    agent.runtime.run(agent.stop)
    assert agent.runtime.totals.batches == 8
    agent.stop.clear()
    agent.sensor.is_exhausted = True
    agent.runtime.run(agent.stop)
    assert agent.runtime.totals.batches == 8


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no file systems can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(folder):
    """Take all the room there is, and return the file that took it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(4096)):
            pass
    return filler


def test_a_full_disk_loses_nothing_that_was_acknowledged_and_detection_goes_on(small_disk, monkeypatch):
    agent = AssembledAgent(small_disk)
    agent.feed(events(160, T0), bad_contact(T0 + 5))
    agent.baseline.store.sync()
    kept, learned = agent.buffer.counts().waiting, agent.learned()
    filler = fill(small_disk)
    for turn in range(40):
        at = T0 + 10 + turn
        agent.feed(events(64, at, comm=f"program-{turn}"), bad_contact(at + 0.5))
        agent.baseline._tried(agent.baseline.store.sync)
    assert len(agent.shown) == 41
    assert agent.runtime.outlet.unkept_total > 0
    assert not agent.baseline.is_working
    filler.unlink()
    monkeypatch.setattr("eguard.agent.learning.RETRY_SECONDS", 0.0)
    agent.wait(0.25)
    agent.feed(events(160, T0 + 100), bad_contact(T0 + 105))
    assert agent.baseline.is_working
    assert agent.learned() >= learned
    assert agent.buffer.counts().waiting > kept
    agent.close()
    again = AssembledAgent(small_disk)
    assert again.learned() >= learned + 160
    again.close()


def test_windows_held_before_and_after_a_store_was_opened_again_are_told_apart(agents, monkeypatch):
    agent = agents()

    def suspicious(at):
        return events(16, at, 3, "evil", destination_address=[BAD] * 16, destination_port=[443] * 16)

    agent.feed(suspicious(T0))
    agent.baseline.store.sync()
    monkeypatch.setattr(agent.baseline.store._files, "sync", lambda _: fail_on_disk())
    monkeypatch.setattr(agent.baseline.store._files, "write", lambda *_: fail_on_disk())
    agent.feed(events(16, T0 + 1))
    agent.baseline._tried(agent.baseline.store.sync)
    assert not agent.baseline.is_working
    monkeypatch.setattr("eguard.agent.learning.RETRY_SECONDS", 0.0)
    agent.wait(0.25)
    assert agent.baseline.is_working
    agent.feed(suspicious(T0 + 60))
    held = [name for name, _ in agent.baseline.table.held.items()]
    assert len(held) == len(set(held)) == 2
    assert {alert.window_id for alert in agent.shown} == set(held)


def fail_on_disk():
    raise OSError(errno.EIO, "Input/output error")

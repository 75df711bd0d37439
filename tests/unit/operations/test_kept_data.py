import sqlite3

import numpy as np
import pytest

from eguard.agent.buffer import FILE_NAME, AlertBuffer
from eguard.baseline import BaselineStore


@pytest.fixture
def folder(settings):
    """Return the folder of a store that an agent has left."""
    here = settings()
    here.state_path.mkdir()
    with BaselineStore.open(here.baseline_folder) as store:
        store.learn([("sh", "cron")], np.array([0]), np.array([100.0]), np.array([0]))
        store.set_policy_revision(1)
    return here.baseline_folder


def test_a_store_is_read_while_an_agent_writes_to_it(examine, folder):
    with BaselineStore.open(folder) as store:
        found = examine("baseline_store")
        assert found.state == "ok"
        assert "1 profiles" in found.cause
        assert "an agent writes to it" in found.cause
        store.set_policy_revision(2)  # the agent's lock was never taken away


def test_an_agent_can_start_after_the_look(examine, folder):
    found = examine("baseline_store")
    assert (found.state, "an agent writes" in found.cause) == ("ok", False)
    with BaselineStore.open(folder) as store:
        assert store.facts.policy_revision == 1


def test_damage_is_told_and_left_alone(examine, folder):
    snapshot = folder / "baselines.bin"
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 1
    snapshot.write_bytes(data)
    found = examine("baseline_store")
    assert found.state == "failed"
    assert "baselines.bin" in found.cause
    assert f"eguard store verify {folder}" in found.remedy
    assert snapshot.read_bytes() == data


def test_a_folder_that_is_a_link_is_told(examine, folder, tmp_path):
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    found = examine("baseline_store")
    assert (found.state, "cannot open" in found.cause) == ("failed", True)


def test_files_set_aside_earlier_are_named(examine, folder):
    (folder / "baselines.bin.damaged-checksum").write_bytes(b"")
    found = examine("baseline_store")
    assert found.state == "warning"
    assert "baselines.bin.damaged-checksum" in found.cause


def test_nothing_learned_is_nothing_to_check(examine, settings):
    assert examine("baseline_store").state == "skipped"
    settings().baseline_folder.mkdir(parents=True)
    assert examine("baseline_store").state == "skipped"
    assert examine("alert_buffer").state == "skipped"


def test_waiting_and_dropped_alerts_are_counted(examine, settings):
    settings().state_path.mkdir()
    path = settings().state_path / FILE_NAME
    buffer = AlertBuffer(path)
    buffer.counts()
    buffer.close()
    assert "0 alerts wait" in examine("alert_buffer").cause
    connection = sqlite3.connect(path)
    connection.execute("UPDATE total SET value = 9 WHERE name = 'dropped'")
    connection.commit()
    connection.close()
    found = examine("alert_buffer")
    assert found.state == "warning"
    assert "the oldest 9 gave way" in found.cause


def test_an_alert_buffer_of_garbage_is_told(examine, settings):
    settings().state_path.mkdir()
    (settings().state_path / "alerts.db").write_bytes(b"SQLite format 3\x00" + b"garbage" * 100)
    found = examine("alert_buffer")
    assert found.state == "failed"
    assert "alerts.db" in found.cause
    assert found.remedy

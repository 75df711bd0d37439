"""Verdicts wait for the agent, are done once, and survive crashes and bad files."""

import numpy as np
import pytest

from eguard.agent.verdicts import Verdict, VerdictBox
from eguard.baseline.store import BaselineStore
from eguard.baseline.store_dump import read_store
from eguard.errors import BaselineStoreError

SH = ("sh", "cron")


@pytest.fixture
def store(tmp_path):
    with BaselineStore.open(tmp_path / "state") as store:
        slots = store.table.slots_for([SH], np.array([100.0]))
        for number in range(4):
            store.table.held.hold(f"w{number}", SH, np.full(8, number + 1), 100.0)
        store.record(slots)
        yield store


@pytest.fixture
def box(tmp_path):
    return VerdictBox(tmp_path / "verdicts")


def test_a_verdict_decides_what_becomes_of_its_window_durably(tmp_path, store, box):
    box.give("a1", "w0", Verdict.BENIGN)
    box.give("a2", "w1", Verdict.TRUE_POSITIVE)
    box.give("a3", "w2", Verdict.FALSE_POSITIVE)
    assert box.apply(store) == 3
    assert store.table.sample_count[0] == 8 * (1 + 3)
    assert [name for name, _ in store.table.held.items()] == ["w3"]
    assert list((tmp_path / "verdicts").iterdir()) == []
    found, _ = read_store(tmp_path / "state")
    assert found.table.sample_count[0] == 32
    assert [name for name, _ in found.table.held.items()] == ["w3"]
    assert box.apply(store) == 0


def test_the_last_word_on_an_alert_counts_and_a_repeated_one_changes_nothing(store, box):
    box.give("a1", "w0", Verdict.TRUE_POSITIVE)
    box.give("a1", "w0", Verdict.BENIGN)
    assert box.apply(store) == 1
    assert store.table.sample_count[0] == 8
    box.give("a1", "w0", Verdict.BENIGN)  # as after a crash between the store and the file
    assert box.apply(store) == 1
    assert store.table.sample_count[0] == 8


def test_what_is_no_verdict_is_put_aside_and_costs_no_other(tmp_path, store, box):
    box.give("a1", "w0", Verdict.BENIGN)
    (tmp_path / "verdicts" / "00.json").write_text('{"alert_id": 3')
    assert box.apply(store) == 1
    assert [path.name for path in (tmp_path / "verdicts").iterdir()] == ["00.unreadable"]


def test_a_verdict_stays_while_the_store_fails(tmp_path, store, box, monkeypatch):
    box.give("a1", "w0", Verdict.BENIGN)

    def fail(*_, **__):
        raise BaselineStoreError("disk")

    monkeypatch.setattr(store, "adjudicate", fail)
    with pytest.raises(BaselineStoreError):
        box.apply(store)
    monkeypatch.undo()
    assert box.apply(store) == 1
    assert store.table.sample_count[0] == 8


def test_the_folder_is_for_its_user_alone(tmp_path, box):
    box.give("a1", "w0", Verdict.BENIGN)
    folder = tmp_path / "verdicts"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())

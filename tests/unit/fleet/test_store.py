"""The store as a whole: opening, migrating, one publisher at a time, readers during a publication."""

import threading

import numpy as np
import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import FleetStoreError
from eguard.fleet import FleetStore
from eguard.fleet.database import Database
from eguard.wire import BaselineRow


def row(key="bash:sshd", seq=1, **distribution):
    return BaselineRow(
        process_key=key,
        event_distribution=distribution or {"process_exec": 1.0},
        sample_count=100,
        entropy_threshold=3.0,
        learned_at_unix=0.0,
        seq=seq,
    )


@pytest.fixture
def store(tmp_path):
    made = FleetStore.create(f"sqlite:///{tmp_path}/fleet.db", SimulatedClock(1e9))
    yield made
    made.close()


def test_migrating_twice_changes_nothing(store):
    store.upsert_baselines("a", "first", [row()])
    assert store.migrate() == store.migrate()
    assert store.upsert_baselines("a", "first", [row()]).unchanged == 1


def test_a_database_of_a_later_version_is_left_alone(tmp_path):
    url = f"sqlite:///{tmp_path}/fleet.db"
    FleetStore.create(url).close()
    database = Database(url)
    with database.write() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    database.dispose()
    store = FleetStore(url)
    with pytest.raises(FleetStoreError) as caught:
        store.migrate()
    store.close()
    assert caught.value.context["found"] == "9999"


def test_a_store_that_was_never_created_says_so(tmp_path):
    store = FleetStore(f"sqlite:///{tmp_path}/fleet.db")
    with pytest.raises(FleetStoreError, match="no such table"):
        store.upsert_baselines("a", "first", [row()])
    store.close()


def test_what_was_answered_is_there_after_reopening(tmp_path):
    url = f"sqlite:///{tmp_path}/fleet.db"
    with FleetStore.create(url) as store:
        for agent in "abc":
            store.upsert_baselines(agent, "first", [row()])
        store.aggregate()
    with FleetStore.create(url) as store:
        assert store.upsert_baselines("a", "first", [row()]).unchanged == 1
        assert store.current_generation() == 1
        assert [item.process_key for item in store.fleet_rows()] == ["bash:sshd"]


def test_a_second_aggregation_is_told_to_wait(store):
    refused = []

    def second(*_):
        for call in (store.aggregate, lambda: store.rollback(1)):
            with pytest.raises(FleetStoreError) as caught:
                call()
            refused.append(caught.value.context["reason"])

    for agent in "abc":
        store.upsert_baselines(agent, "first", [row()])
    store.aggregate(progress=second)
    assert len(refused) >= 2
    assert set(refused) == {"aggregation_running"}
    assert store.aggregate().generation == 2  # the refusals left no lock behind


def test_a_failed_aggregation_leaves_the_old_generation_and_no_lock(store, monkeypatch):
    for agent in "abc":
        store.upsert_baselines(agent, "first", [row()])
    store.aggregate()
    before = store.fleet_rows()

    def fail(*_):
        raise RuntimeError("pulled the plug")

    with monkeypatch.context() as patched:
        patched.setattr("eguard.fleet.generations._prune", fail)
        for agent in "abc":
            store.upsert_baselines(agent, "first", [row(seq=2, alert=1.0)])
        with pytest.raises(RuntimeError, match="plug"):
            store.aggregate()
    assert (store.current_generation(), store.fleet_rows()) == (1, before)
    assert store.health_history() == []
    assert store.aggregate().generation == 2


def test_readers_see_one_generation_whole_while_others_are_published(store):
    """All rows of a generation carry one value; a mixture would show two."""
    keys = [f"p{number:02d}:init" for number in range(20)]
    stop = threading.Event()
    mixtures, reads = [], []

    def read():
        while not stop.is_set():
            rows = store.fleet_rows()
            seen = {tuple(sorted(item.median_distribution.items())) for item in rows}
            reads.append(len(rows))
            if len(seen) > 1 or len(rows) not in {0, 20}:
                mixtures.append(seen)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for seq in range(1, 6):
        share = float(np.float32(seq / 10))
        for agent in "abc":
            store.upsert_baselines(
                agent, "first", [row(key, seq, process_exec=share, alert=1.0 - share) for key in keys]
            )
        store.aggregate()
    stop.set()
    for reader in readers:
        reader.join()
    assert mixtures == []
    assert 20 in reads


def test_uploads_go_on_during_an_aggregation(store):
    for agent in "abc":
        store.upsert_baselines(agent, "first", [row()])
    accepted = []

    def upload(*_):
        thread = threading.Thread(
            target=lambda: accepted.append(store.upsert_baselines("d", "first", [row(seq=len(accepted) + 1)]).accepted)
        )
        thread.start()
        thread.join(timeout=20)

    report = store.aggregate(progress=upload)
    assert set(accepted) == {1}
    assert report.agents == 3  # the snapshot was taken before


def test_equal_uploads_make_equal_files(tmp_path):
    """Nothing of the machine's clock or of chance enters the store of a replay, and one file is all of it."""
    for name in ("one", "two"):
        with FleetStore.create(f"sqlite:///{tmp_path}/{name}.db", SimulatedClock(5e8)) as store:
            for agent in "abcd":
                store.upsert_baselines(agent, "first", [row(), row("ls:bash", alert=1.0)])
            store.aggregate()
            store.aggregate()
            store.fleet_rows()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.db", "two.db"]
    assert (tmp_path / "one.db").read_bytes() == (tmp_path / "two.db").read_bytes()

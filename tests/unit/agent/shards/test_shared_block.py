"""The shared profiles: two views of one memory, versions, and rows put back as they were."""

import os

import numpy as np
import pytest

from eguard.agent.shards.shared_block import ShardTable, SharedBlock, open_memory
from eguard.baseline.profile import ProfileTable
from eguard.errors import ShardLostError

CAPACITY = 6


@pytest.fixture
def views():
    descriptor = open_memory(CAPACITY)
    yield SharedBlock(descriptor, CAPACITY), SharedBlock(descriptor, CAPACITY)
    os.close(descriptor)


def test_every_column_is_one_memory_with_the_shape_and_type_of_the_tables_own(views):
    one, other = views
    own = ProfileTable(CAPACITY).learning_columns()
    assert one.columns.keys() == own.keys()
    for number, (name, column) in enumerate(one.columns.items(), 1):
        assert (column.shape, column.dtype) == (own[name].shape, own[name].dtype)
        column[...] = number
    one.serials[...] = 99
    for number, column in enumerate(other.columns.values(), 1):
        assert (column == number).all()  # no two columns overlap
    assert (other.serials == 99).all()
    assert other.version == 0


def test_a_block_takes_over_what_a_table_holds(views):
    one, other = views
    table = ProfileTable(CAPACITY)
    slots = table.slots_for([("sh", "cron")], np.array([5.0]))
    table.observe(slots, np.array([3]), np.array([5.0]), np.array([9]))
    one.fill(table.learning_columns(), np.arange(CAPACITY))
    for name, column in table.learning_columns().items():
        assert column.tobytes() == other.columns[name].tobytes()
    assert other.serials.tolist() == list(range(CAPACITY))


def test_each_turn_has_its_version_and_generation(views):
    one, other = views
    assert [one.begin(4), one.begin(5)] == [1, 2]
    assert (other.version, other.generation) == (2, 5)


def test_only_the_named_rows_are_put_back_and_seeds_are_not_touched(views):
    one, other = views
    saved = one.save(np.array([1, 4]))
    assert not {"prior", "prior_generation"} & saved.keys()
    for column in (*other.columns.values(), other.serials):
        column[...] = 7
    one.restore(np.array([1, 4]), saved)
    assert one.columns["counts"][:, 0].tolist() == [7, 0, 7, 7, 0, 7]
    assert one.columns["payload.m2"].tolist() == [7, 0, 7, 7, 0, 7]
    assert one.serials.tolist() == [7, 0, 7, 7, 0, 7]
    assert (one.columns["prior"] == 7).all()


def test_a_detached_block_keeps_its_values_for_itself(views):
    one, other = views
    one.columns["counts"][2] = 3
    one.begin(8)
    one.detach()
    other.columns["counts"][2] = 4
    assert one.columns["counts"][2].tolist() == [3] * 8
    assert (one.version, one.generation) == (1, 8)


def test_memory_for_another_capacity_is_refused():
    descriptor = open_memory(CAPACITY)
    with pytest.raises(ShardLostError, match="bytes"):
        SharedBlock(descriptor, CAPACITY + 100)
    os.close(descriptor)


def test_memory_has_no_name_where_the_system_has_no_memory_files(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    descriptor = open_memory(CAPACITY)
    assert list(tmp_path.iterdir()) == []
    assert SharedBlock(descriptor, CAPACITY).begin(1) == SharedBlock(descriptor, CAPACITY).version == 1
    os.close(descriptor)


def test_a_shard_learns_into_shared_rows_and_leaves_marks_and_held_windows_to_its_agent(views):
    one, other = views
    one.fill(ProfileTable(CAPACITY).learning_columns(), np.zeros(CAPACITY))
    table = ShardTable(other)
    table.observe(np.array([2, 2]), np.array([0, 3]), np.array([5.0, 6.0]), np.array([0, 9]))
    table.hold_back("window", 2, np.arange(8), 6.0)
    assert one.columns["counts"][2].tolist() == [1, 0, 0, 1, 0, 0, 0, 0]
    assert one.columns["interarrival.count"][2] == 1
    assert (table.sequence, len(table.held), len(table.dirty_slots())) == (0, 0, 0)

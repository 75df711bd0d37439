"""Which shard has a key: always the same one, and every event exactly one."""

import numpy as np
import pytest

from eguard.agent.shards.routing import KeyRouter, shard_of_key
from eguard.baseline.slots import SlotIndex


@pytest.mark.parametrize(
    ("key", "expected"),
    [(("sh", "init"), [0, 1, 2, 59]), (("bash", "sshd"), [0, 1, 2, 39]), (("bad\udc80", ""), [0, 1, 1, 35])],
    ids=["sh", "bash", "no-unicode"],
)
def test_the_shard_of_a_key_outlives_every_process(key, expected):
    assert [shard_of_key(key, n_shards) for n_shards in (1, 2, 3, 64)] == expected


def test_names_do_not_run_into_each_other():
    pairs = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")]
    assert len({shard_of_key(pair, 1 << 30) for pair in pairs}) == 4


def test_keys_spread_evenly():
    shards = [shard_of_key((f"name{number}", "init"), 4) for number in range(4000)]
    assert np.bincount(shards).min() > 900


def test_every_event_goes_to_the_shard_of_its_key_in_order():
    index = SlotIndex(8)
    keys = [(f"k{number}", "p") for number in (0, 1, 2, 3, 0, 1, 0)]
    slots = index.assign(keys).slots
    parts = KeyRouter(3, index).parts(slots)
    for shard, part in enumerate(parts):
        assert part.tolist() == [at for at, key in enumerate(keys) if shard_of_key(key, 3) == shard]


def test_events_without_a_slot_go_round():
    parts = KeyRouter(2, SlotIndex(2)).parts(np.full(5, -1, dtype=np.intp))
    assert [part.tolist() for part in parts] == [[0, 2, 4], [1, 3]]


def test_a_slot_that_changes_hands_goes_to_the_new_keys_shard():
    index = SlotIndex(1)
    router = KeyRouter(2, index)
    names = {shard_of_key((f"k{number}", "p"), 2): (f"k{number}", "p") for number in range(20)}
    for shard in (0, 1):
        assignment = index.assign([names[shard]])
        evicted = np.array([slot for _, slot in assignment.evicted], dtype=np.intp)
        assert router.forget(evicted) == ({0: [0]} if shard else {})
        assert [len(part) for part in router.parts(assignment.slots)] == [1 - shard, shard]
        assert router.slots_of(shard).tolist() == [0]
        assert router.slots_of(1 - shard).tolist() == []


def test_forgetting_a_slot_that_nobody_used_concerns_no_shard():
    assert KeyRouter(2, SlotIndex(4)).forget(np.array([3], dtype=np.intp)) == {}

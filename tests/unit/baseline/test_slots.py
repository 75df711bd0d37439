"""Slots: stable while a key lives, reused after it, and never taken within one batch."""

from collections import OrderedDict

import numpy as np
import pytest

from eguard.baseline.slots import NO_SLOT, KeyColumns, SlotIndex
from eguard.wire.process_key import decode_process_key, encode_process_key


def key(number):
    return (f"p{number}", "init")


def test_a_key_keeps_its_slot():
    index = SlotIndex(4)
    first = index.assign([key(0), key(1)]).slots
    assert index.assign([key(1), key(0), key(2)]).slots.tolist() == [first[1], first[0], 2]
    assert index.key_of(2) == key(2)


def test_the_key_unseen_for_longest_makes_room():
    index = SlotIndex(3)
    index.assign([key(0), key(1), key(2)])
    index.assign([key(0)])
    assignment = index.assign([key(3)])
    assert assignment.evicted == [(key(1), 1)]
    assert assignment.created == [1]
    assert key(1) not in index
    assert len(index) == 3


def test_last_occurrence_in_a_batch_decides_who_is_oldest():
    index = SlotIndex(3)
    index.assign([key(0), key(1), key(2)])
    index.assign([key(2), key(0), key(1), key(2)])
    assert [name for name, _ in index.items()] == [key(0), key(1), key(2)]


def test_keys_of_one_batch_are_never_evicted_for_one_another():
    index = SlotIndex(2)
    index.assign([key(9)])
    assignment = index.assign([key(0), key(1), key(2), key(0), key(2)])
    assert assignment.slots.tolist() == [
        assignment.slots[0],
        assignment.slots[1],
        NO_SLOT,
        assignment.slots[0],
        NO_SLOT,
    ]
    assert len(set(assignment.slots.tolist()) - {NO_SLOT}) == 2
    assert assignment.evicted == [(key(9), 0)]


def test_looking_up_is_no_sighting():
    index = SlotIndex(2)
    index.assign([key(0), key(1)])
    assert index.lookup([key(0), key(7)]).tolist() == [0, NO_SLOT]
    assert index.assign([key(2)]).evicted == [(key(0), 0)]


def test_a_free_slot_has_no_key():
    index = SlotIndex(2)
    with pytest.raises(KeyError):
        index.key_of(1)


def test_capacity_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        SlotIndex(0)


def test_index_agrees_with_an_ordered_dictionary():
    rng = np.random.default_rng(5)
    index, model = SlotIndex(8), OrderedDict()
    for _ in range(400):
        batch = [key(int(number)) for number in rng.integers(0, 20, rng.integers(1, 7))]
        assignment = index.assign(batch)
        known = [name for name in dict.fromkeys(reversed(batch)) if name in model][::-1]
        for name in known:
            model.move_to_end(name)
        for name in dict.fromkeys(batch):
            if name not in model:
                if len(model) == 8:
                    model.popitem(last=False)
                model[name] = None
        assert [name for name, _ in index.items()] == list(model)
        slot_of = dict(index.items())
        assert assignment.slots.tolist() == [slot_of[name] for name in batch]
        assert sorted(slot_of.values()) == index.used().tolist()
        assert len(set(slot_of.values())) == len(slot_of)


def test_slots_never_used_are_handed_out_in_rising_order_and_freed_ones_first():
    index = SlotIndex(4)
    assert index.assign([key(0), key(1)]).created == [0, 1]
    assert index.assign([key(2), key(3)]).created == [2, 3]
    assert index.assign([key(4), key(5)]).created == [0, 1]


def test_after_a_restart_the_lowest_holes_are_filled_first():
    index = SlotIndex(8)
    index.restore([(key(5), 5), (key(2), 2), (key(3), 3)])
    assert index.used().tolist() == [2, 3, 5]
    assert index.assign([key(number) for number in range(10, 15)]).created == [0, 1, 4, 6, 7]
    assert index.assign([key(20)]) == ([5], [5], [(key(5), 5)])
    index.restore([])
    assert index.assign([key(0), key(1)]).created == [0, 1]


@pytest.mark.parametrize("slot", [-1, 1, 7, 8])
def test_a_slot_that_nobody_had_has_no_key(slot):
    index = SlotIndex(8)
    index.assign([key(0)])
    with pytest.raises(KeyError):
        index.key_of(slot)


def test_slots_are_those_of_a_stack_of_all_free_ones():
    rng = np.random.default_rng(8)
    index, owner, stack = SlotIndex(12), OrderedDict(), list(range(11, -1, -1))
    for turn in range(300):
        batch = [key(int(number)) for number in rng.choice(30, rng.integers(1, 5), replace=False)]
        for name in [name for name in batch if name in owner]:
            owner.move_to_end(name)
        created = []
        for name in batch:
            if name not in owner:
                if not stack:
                    stack.append(owner.popitem(last=False)[1])
                owner[name] = stack.pop()
                created.append(owner[name])
        assert index.assign(batch).created == created
        if turn % 40 == 39:  # a restart that some keys do not survive
            for name in list(owner)[::3]:
                del owner[name]
            index.restore(list(owner.items()))
            stack = sorted(set(range(12)) - set(owner.values()), reverse=True)
        assert index.items() == list(owner.items())


def test_blank_names_are_one_key_and_called_what_the_wire_calls_them():
    index = SlotIndex(capacity=4)
    first = index.assign([("svchost.exe", ""), ("", ""), ("svchost.exe", "unknown"), ("svchost.exe", "  ")])
    assert first.slots.tolist() == [0, 1, 0, 0]
    assert [key for key, _ in index.items()] == [("svchost.exe", "unknown"), ("unknown", "unknown")]
    assert index.lookup([("svchost.exe", ""), ("svchost.exe", "unknown"), (" ", "")]).tolist() == [0, 0, 1]
    again = index.assign([("svchost.exe", ""), ("sh", "")])
    assert (again.slots.tolist(), again.created) == ([0, 2], [2])
    assert decode_process_key(encode_process_key(*index.key_of(0))) == index.key_of(0)


def test_columns_are_the_keys_that_their_rows_make():
    comm, parents = ["sh", "ls", "sh", ""], ["init", "sh", "init", ""]
    keys = KeyColumns(comm, parents)
    assert (len(keys), list(keys)) == (4, list(zip(comm, parents, strict=True)))
    assert ("ls", "sh") in keys
    assert ("ls", "init") not in keys
    by_column, by_row = SlotIndex(8), SlotIndex(8)
    assert by_column.assign(keys).slots.tolist() == by_row.assign(list(keys)).slots.tolist() == [0, 1, 0, 2]
    assert by_column.items() == by_row.items()


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        SlotIndex(8).assign(KeyColumns(["sh", "ls"], ["init"]))


def test_new_keys_take_slots_in_the_order_of_their_first_event():
    index = SlotIndex(8)
    index.assign([key(0)])
    assignment = index.assign([key(3), key(0), key(1), key(3), key(2), key(1)])
    assert assignment.slots.tolist() == [1, 0, 2, 1, 3, 2]
    assert assignment.created == [1, 2, 3]


def test_looking_up_a_batch_adds_no_key():
    index = SlotIndex(8)
    assert index.lookup([key(1), key(1), ("", "")]).tolist() == [NO_SLOT] * 3
    assert len(index) == 0

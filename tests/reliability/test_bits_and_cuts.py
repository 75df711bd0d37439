"""Damage of every kind: each bit flipped, each length cut, files exchanged, missing or made of nonsense."""

import bisect
import random

import pytest

from eguard.baseline.exercise import exercise
from eguard.baseline.framing import decode_snapshot, scan_journal
from eguard.baseline.recovery import recover
from eguard.baseline.store_dump import dump_state
from eguard.errors import StoreCorruptError

MAX_BYTES = 4096
#: Every bit and length goes through the decoder; of these one in so many through a whole load.
STRIDE = 23


@pytest.fixture(scope="module")
def folder(disk, open_store):
    """Return a folder of 12 operations: a previous generation, a snapshot, and a journal of four records."""
    files = disk.CrashDisk()
    store = open_store(files, 8)
    exercise(store, 5, 3)
    store.compact()
    exercise(store, 3, 3)
    store.compact()
    exercise(store, 4, 3)
    store.close()
    found = files.survivors()[0]
    found.pop("baselines.journal.meta")
    assert all(len(data) <= MAX_BYTES for data in found.values())
    return found


@pytest.fixture(scope="module")
def states(disk, open_store, state_in):
    """Return the state after each operation of that workload."""
    store = open_store(disk.CrashDisk(), 8)
    found = [state_in(store)]
    for _ in range(14):
        exercise(store, 1, 3)
        found.append(state_in(store))
    return found


@pytest.fixture(scope="module")
def reload(disk, open_store, state_in):
    """Return what opens a folder, checks that it then goes on, and tells what was found."""

    def look(files):
        damaged = disk.CrashDisk(files)
        store = open_store(damaged, 8)
        state, recovered = state_in(store), store.recovered
        store.set_policy_revision(99)
        again = open_store(disk.CrashDisk(damaged.survivors()[1]), 8)
        assert again.recovered.problems == []
        assert state_in(again) == state | {"policy_revision": 99, "operation": state["operation"] + 1}
        assert (again.incarnation != recovered.incarnation.hex()) == (recovered.is_lossy or not recovered.incarnation)
        return state, recovered, damaged.names()

    return look


@pytest.fixture(scope="module")
def recover_from(disk):
    """Return what loads a folder without repairing it."""

    def look(files):
        found = recover(disk.CrashDisk(files), 8)
        return dump_state(found.table, found.facts) | {"operation": found.operation}, found

    return look


def flips(data):
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit // 8, bytes(changed)


def test_every_bit_of_the_snapshot(folder, states, recover_from):
    for number, (_, changed) in enumerate(flips(folder["baselines.bin"])):
        with pytest.raises(StoreCorruptError):
            decode_snapshot(changed)
        if number % STRIDE == 0:
            # The previous generation and both journals lead to the same state.
            state, found = recover_from(folder | {"baselines.bin": changed})
            assert state == states[12]
            assert [problem.file for problem in found.problems] == ["baselines.bin"]
            assert not found.is_lossy


def test_a_damaged_snapshot_without_a_previous_one(folder, recover_from):
    alone = {name: data for name, data in folder.items() if not name.endswith(".previous")}
    for _, changed in list(flips(folder["baselines.bin"]))[::STRIDE]:
        state, found = recover_from(alone | {"baselines.bin": changed})
        assert state["operation"] == 0
        assert found.is_lossy
        assert {problem.file for problem in found.problems} == {"baselines.bin", "baselines.journal"}


def test_every_bit_of_the_journal(folder, states, judge, recover_from):
    data = folder["baselines.journal"]
    starts = [record.offset for record in scan_journal(data).records]
    for number, (position, changed) in enumerate(flips(data)):
        intact = bisect.bisect_right(starts, position) - 1
        if position < 64:
            with pytest.raises(StoreCorruptError):
                scan_journal(changed)
            expected = (8, ["unreadable"], {})
        else:
            # Nothing tells a flipped bit in the last write from a last write that was not finished.
            is_last = intact == len(starts) - 1
            scan = scan_journal(changed)
            assert (len(scan.records), scan.valid_bytes) == (intact, starts[intact])
            assert scan.ending == ("torn" if is_last else "damaged")
            torn = {"baselines.journal": len(data) - starts[intact]}
            expected = (8 + intact, [], torn) if is_last else (8 + intact, ["damaged_middle"], {})
        if number % STRIDE == 0:
            files = folder | {"baselines.journal": changed}
            state, found = recover_from(files)
            assert state == states[state["operation"]]
            assert (state["operation"], [problem.kind for problem in found.problems], found.torn) == expected
            assert judge(files)["operation"] == state["operation"]


def test_every_length_of_the_snapshot(folder, states, reload):
    data = folder["baselines.bin"]
    for length in range(len(data)):
        with pytest.raises(StoreCorruptError):
            decode_snapshot(data[:length])
        if length % STRIDE == 0:
            state, _, names = reload(folder | {"baselines.bin": data[:length]})
            assert state == states[12]
            assert "baselines.bin.damaged-1-unreadable" in names


def test_every_length_of_the_journal(folder, states, recover_from, reload):
    data = folder["baselines.journal"]
    ends = [*(record.offset for record in scan_journal(data).records[1:]), len(data)]
    for length in range(len(data)):
        files = folder | {"baselines.journal": data[:length]}
        state, found = recover_from(files)
        whole = bisect.bisect_right(ends, length)
        assert state == states[8 + whole]
        if length < 64:
            assert found.is_lossy
        else:
            assert found.problems == []
            cut = length - ([64, *ends][whole])
            assert found.torn == ({"baselines.journal": cut} if cut else {})
        if length % STRIDE == 0:
            assert reload(files)[0] == state


def test_zeros_after_the_last_record_are_a_torn_tail(folder, states, reload):
    state, recovered, _ = reload(folder | {"baselines.journal": folder["baselines.journal"] + bytes(5000)})
    assert state == states[12]
    assert recovered.torn == {"baselines.journal": 5000}


def test_a_journal_of_an_older_generation_changes_nothing(folder, states, reload):
    old = folder["baselines.journal.previous"]
    state, recovered, _ = reload(folder | {"baselines.journal": old})
    assert state == states[8]
    assert recovered.problems == []


def test_a_journal_of_a_later_generation_is_set_aside(folder, states, reload):
    files = {"baselines.bin": folder["baselines.bin.previous"], "baselines.journal": folder["baselines.journal"]}
    state, recovered, names = reload(files)
    assert state == states[5]
    assert [problem.kind for problem in recovered.problems] == ["out_of_reach"]
    assert "baselines.journal.damaged-1-out_of_reach" in names


def test_a_journal_of_another_life_is_set_aside(folder, states, reload, disk, open_store):
    other = disk.CrashDisk()
    store = open_store(other, 8)
    exercise(store, 8, 3)
    store.compact()
    exercise(store, 4, 3)
    journal = other.survivors()[0]["baselines.journal"]
    state, recovered, _ = reload(folder | {"baselines.journal": journal})
    assert state == states[8]
    assert [problem.kind for problem in recovered.problems] == ["foreign_journal"]
    assert recovered.is_lossy


def test_a_first_journal_without_its_snapshot_starts_from_nothing(disk, open_store, states, reload):
    files = disk.CrashDisk()
    store = open_store(files, 8)
    exercise(store, 6, 3)
    journal = files.survivors()[0]["baselines.journal"]
    state, recovered, _ = reload({"baselines.journal": journal})
    assert state == states[6]
    assert not recovered.is_lossy


def test_a_later_journal_without_its_snapshot_is_set_aside(folder, states, reload):
    state, recovered, names = reload({"baselines.journal": folder["baselines.journal"]})
    assert state == states[0]
    assert [problem.kind for problem in recovered.problems] == ["no_snapshot"]
    assert "baselines.journal.damaged-1-no_snapshot" in names


def test_both_snapshots_damaged(folder, states, reload):
    files = folder | {"baselines.bin": b"x", "baselines.bin.previous": b""}
    state, recovered, _ = reload(files)
    assert state == states[0]
    assert recovered.is_lossy


def test_crash_while_damage_is_repaired(folder, states, disk, open_store, state_in):
    damaged = [
        folder | {"baselines.bin": folder["baselines.bin"][:-1]},
        folder | {"baselines.journal": folder["baselines.journal"].replace(b"eGjr", b"eGjx", 2)},
        folder | {"baselines.bin.previous": b"nonsense"},
    ]
    for start in damaged:
        whole = disk.CrashDisk(start)
        expected = state_in(open_store(whole, 8))
        for fail_at in range(len(whole.calls)):
            crashing = disk.CrashDisk(start, fail_at=fail_at, partial=True)
            with pytest.raises(disk.PowerCutError):
                open_store(crashing, 8)
            for left in crashing.survivors():
                assert state_in(open_store(disk.CrashDisk(left), 8)) == expected


def test_nonsense_never_raises(folder, reload):
    rng = random.Random(5)
    names = [name for name in folder if not name.endswith(".new")]
    for _ in range(150):
        files = dict(folder)
        for name in rng.sample(names, rng.randint(1, 3)):
            data = bytearray(files[name])
            for _ in range(rng.randint(1, 5)):
                at = rng.randrange(len(data) + 1)
                data[at : at + rng.randint(0, 40)] = rng.randbytes(rng.randint(0, 40))
            files[name] = bytes(data)
        reload(files)

"""The store against a disk that dies or fails at every single call, and forgets what was not synced."""

import errno

import pytest

from eguard.baseline.exercise import exercise
from eguard.errors import BaselineStoreError

OPERATIONS = 17


def without_verdict(judged):
    return {name: value for name, value in judged.items() if name not in ("generation", "damage")}


class Run:
    """One run of the workload on a disk, with what it acknowledged."""

    def __init__(self, disk, open_store, operations=OPERATIONS):
        self.started = self.acknowledged = 0
        self.disk, self.open_store, self.operations = disk, open_store, operations
        self.refusals = 0

    def go(self):
        store = self.open_store(self.disk)
        self.started = self.acknowledged = store.operation
        try:
            exercise(store, self.operations, 0, self.announce)
            store.close()
        except BaselineStoreError:
            self.prove_poisoned(store)
            raise

    def prove_poisoned(self, store):
        for call in (store.sync, store.compact, lambda: store.set_policy_revision(10**6), store.withdraw_seeds):
            try:
                call()
            except BaselineStoreError:
                self.refusals += 1

    def announce(self, what, number):
        if what == "START":
            self.started = number
        else:
            self.acknowledged = number


@pytest.fixture(scope="module")
def check_survivor(judge, expected_states, disk, open_store, state_in):
    """Return what judges a folder before anything repairs it, opens it, compares, and lets it live on."""
    operations = {}

    def look(folder):
        judged = judge(folder)
        if judged is None or "status" not in judged:
            return 0
        operation = judged["operation"]
        assert without_verdict(judged) == expected_states[operation]
        assert judged["damage"] == []
        survivor = disk.CrashDisk(folder)
        store = open_store(survivor)
        assert state_in(store) == expected_states[operation]
        assert store.recovered.problems == []
        exercise(store, 2, 0)
        store.close()
        # After the last sync there is one folder that a crash can leave, but for the hint.
        for later in survivor.survivors()[:2]:
            assert without_verdict(judge(later)) == expected_states[operation + 2]
        return operation

    def check(folder, run):
        name = frozenset(folder.items())
        if name not in operations:
            operations[name] = look(folder)
        assert run.acknowledged <= operations[name] <= run.started

    return check


def count_calls(disk, open_store):
    run = Run(disk.CrashDisk(), open_store)
    run.go()
    return len(run.disk.calls)


@pytest.mark.parametrize("partial", [False, True], ids=["before", "halfway"])
def test_killed_at_every_call(disk, open_store, check_survivor, partial):
    calls = count_calls(disk, open_store)
    assert calls > 60
    for fail_at in range(calls):
        run = Run(disk.CrashDisk(fail_at=fail_at, partial=partial), open_store)
        with pytest.raises(disk.PowerCutError):
            run.go()
        for folder in run.disk.survivors():
            check_survivor(folder, run)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_error_at_every_call(disk, open_store, check_survivor, error):
    for fail_at in range(count_calls(disk, open_store)):
        run = Run(disk.CrashDisk(fail_at=fail_at, error=error, partial=True), open_store)
        try:
            run.go()
        except BaselineStoreError:
            assert run.refusals == (4 if run.started else 0)
        else:
            # Only the hint for people may fail in silence.
            assert run.disk.calls[fail_at] in {"unlink", "create", "write", "close"}
            assert run.acknowledged == OPERATIONS
        for folder in run.disk.survivors():
            check_survivor(folder, run)


def test_every_kind_of_call_was_made_to_fail(disk, open_store):
    first = Run(disk.CrashDisk(), open_store)
    first.go()
    torn = dict(first.disk.survivors()[0])
    torn["baselines.journal"] += b"eGjr-torn"
    second = Run(disk.CrashDisk(torn), open_store, operations=1)
    second.go()
    assert {*first.disk.calls, *second.disk.calls} == {
        "names", "read", "create", "open", "write", "fsync", "truncate", "close", "rename", "unlink", "fsync folder",
    }  # fmt: skip


def test_killed_at_every_call_of_the_recovery(disk, open_store, check_survivor):
    whole = Run(disk.CrashDisk(), open_store, operations=20)
    whole.go()
    base = whole.disk.survivors()[0]
    mid_compaction = dict(base)
    mid_compaction["baselines.journal.previous"] = mid_compaction.pop("baselines.journal")
    mid_compaction["baselines.bin.previous"] = mid_compaction.pop("baselines.bin")
    for start in (base, base | {"baselines.journal": base["baselines.journal"] + b"torn"}, mid_compaction):
        calls = disk.CrashDisk(start)
        open_store(calls)
        assert len(calls.calls) > 15
        for fail_at in range(len(calls.calls)):
            crashing = disk.CrashDisk(start, fail_at=fail_at, partial=True)
            run = Run(crashing, open_store, operations=0)
            run.started = run.acknowledged = 20
            with pytest.raises(disk.PowerCutError):
                open_store(crashing)
            for folder in crashing.survivors():
                check_survivor(folder, run)

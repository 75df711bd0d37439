"""The file layer for Windows against every system call that it makes: killed in or after it, and refused.

The calls go to a real folder. Those of Windows' rules that matter hold there: what is open can be neither renamed nor
removed, and a lock is on a file. Nothing is synced; what a power cut leaves is examined on `CrashDisk`.
"""

import contextlib
import errno
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from eguard.baseline import portable_files
from eguard.baseline.exercise import EXERCISE_CAPACITY, exercise
from eguard.baseline.portable_files import LOCK_NAME, PortableFiles
from eguard.baseline.store import BaselineStore
from eguard.clock import SimulatedClock
from eguard.errors import BaselineStoreError

OPERATIONS = 2
COUNTED = {"open", "read", "write", "fsync", "ftruncate", "close", "replace", "unlink", "lstat", "scandir"}
OURS = {"open", "fsync", "close", "replace", "unlink"}
WINDOWS_LIKE = Path(__file__).parents[1] / "integration" / "windows_like" / "sitecustomize.py"


@pytest.fixture(autouse=True)
def _locks(monkeypatch):
    spec = importlib.util.spec_from_file_location("eguard_windows_like", WINDOWS_LIKE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "msvcrt", module.windows_locks())


class Calls:
    """`os` as the layer sees it. Call number `fail_at` raises: with `is_done` after its work, half of a write."""

    def __init__(self, end, fail_at=None, *, is_done=False):
        self.end, self.fail_at, self.is_done = end, fail_at, is_done
        self.calls, self.paths = [], {}

    def __getattr__(self, name):
        if name not in COUNTED:
            return getattr(os, name)
        real = getattr(type(self), f"do_{name}").__get__(self) if name in OURS else getattr(os, name)

        def call(*arguments):
            self.calls.append(name)
            if len(self.calls) - 1 != self.fail_at:
                return real(*arguments)
            if self.is_done and name == "write":
                os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
            elif (self.is_done and name != "scandir") or name == "close":  # a close that reports an error has closed
                with contextlib.suppress(OSError):
                    real(*arguments)
            raise self.end

        return call

    def do_open(self, path, *arguments):
        descriptor = os.open(path, *arguments)
        self.paths[descriptor] = str(path)
        return descriptor

    def do_close(self, descriptor):
        os.close(descriptor)
        del self.paths[descriptor]

    def do_fsync(self, descriptor):
        os.fstat(descriptor)

    def do_replace(self, source, target):
        self.refuse_open(source, target)
        Path(source).replace(target)

    def do_unlink(self, path):
        self.refuse_open(path)
        Path(path).unlink()

    def refuse_open(self, *paths):
        for path in map(str, paths):
            if path in self.paths.values():
                raise PermissionError(errno.EACCES, "in use", path)

    def forget_process(self):
        """Do what the system does with the descriptors of a process that ended."""
        for descriptor in list(self.paths):
            self.do_close(descriptor)


class Run:
    """One run of the workload in a folder that holds `base`, with what it acknowledged."""

    def __init__(self, folder, base, calls, open_store):
        self.folder, self.calls, self.open_store = folder, calls, open_store
        self.started = self.acknowledged = base.operation
        folder.mkdir()
        for name, data in base.files.items():
            (folder / name).write_bytes(data)

    def go(self, monkeypatch):
        monkeypatch.setattr(portable_files, "os", self.calls)
        files = PortableFiles(self.folder, exclusive=True)
        try:
            store = self.open_store(files)
            assert store.operation == self.started
            exercise(store, OPERATIONS, 0, self.announce)
            store.close()
        finally:
            # The lock is the process's, and this process goes on.
            files._lock.release()

    def announce(self, what, number):
        if what == "START":
            self.started = number
        else:
            self.acknowledged = number

    def content(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if path.name != LOCK_NAME}


@pytest.fixture
def check(judge, expected_states, open_store, state_in, monkeypatch):
    """Return what judges the folder of a run that ended early, and goes on in it as the next process would."""
    seen = {}

    def check_folder(run):
        content = run.content()
        name = frozenset(content.items())
        if name not in seen:
            judged = judge(content)
            seen[name] = judged["operation"] if judged is not None and "operation" in judged else 0
            if seen[name]:
                assert judged["damage"] == []
            monkeypatch.setattr(portable_files, "os", Calls(AssertionError))
            store = open_store(PortableFiles(run.folder, exclusive=True))
            assert state_in(store) == expected_states[seen[name]]
            assert store.recovered.problems == []
            exercise(store, 2, 0)
            store.compact()
            store.close()
            assert judge(run.content())["operation"] == seen[name] + 2
        assert run.acknowledged <= seen[name] <= run.started

    return check_folder


@dataclass
class Base:
    """What a folder holds at the start, after how many operations, and which and how many calls a run makes."""

    operation: int
    files: dict[str, bytes]
    kinds: set[str]
    n_calls: int = 0


@pytest.fixture(params=["new", "compacting", "torn"])
def base(request, tmp_path, open_store, disk, monkeypatch):
    found = Base(0, {}, COUNTED - {"read", "ftruncate"})
    if request.param != "new":
        whole, found.operation = disk.CrashDisk(), 14 if request.param == "compacting" else 20
        exercise(open_store(whole), found.operation, 0)
        found.files = whole.survivors()[0]
        found.kinds = COUNTED - {"ftruncate"}
    if request.param == "torn":
        found.files["baselines.journal"] += b"torn"
        found.kinds = COUNTED
    run = Run(tmp_path / "whole", found, Calls(disk.PowerCutError()), open_store)
    run.go(monkeypatch)
    assert run.acknowledged == found.operation + OPERATIONS
    assert set(run.calls.calls) == found.kinds
    assert run.calls.paths == {}
    found.n_calls = len(run.calls.calls)
    return found


def test_killed_at_every_system_call(base, tmp_path, open_store, disk, check, monkeypatch):
    """A kill before a call is one after the call before it."""
    for fail_at in range(base.n_calls):
        run = Run(tmp_path / str(fail_at), base, Calls(disk.PowerCutError(), fail_at, is_done=True), open_store)
        with pytest.raises(disk.PowerCutError):
            run.go(monkeypatch)
        run.calls.forget_process()
        check(run)


def test_error_at_every_system_call(base, tmp_path, open_store, check, monkeypatch):
    silent = set()
    for fail_at in range(base.n_calls):
        calls = Calls(OSError(errno.EIO, "bad sector"), fail_at)
        run = Run(tmp_path / str(fail_at), base, calls, open_store)
        try:
            run.go(monkeypatch)
        except BaselineStoreError:
            calls.fail_at = None
            calls.forget_process()
        else:
            silent.add(calls.calls[fail_at])
            assert run.acknowledged == base.operation + OPERATIONS
        check(run)
    # Only the hint for people may fail in silence: making it, writing it, closing it.
    assert silent <= {"unlink", "open", "write", "close"}


def test_a_store_that_failed_can_be_opened_again_by_the_same_process(tmp_path, open_store, state_in, monkeypatch):
    calls = Calls(OSError(errno.EIO, "bad sector"))
    monkeypatch.setattr(portable_files, "os", calls)
    store = open_store(PortableFiles(tmp_path / "state", exclusive=True))
    exercise(store, 3, 0)
    calls.fail_at = len(calls.calls)
    with pytest.raises(BaselineStoreError):
        exercise(store, 1, 0)
    store.close()
    assert calls.paths == {}
    again = open_store(PortableFiles(tmp_path / "state", exclusive=True))
    assert again.operation == 3
    exercise(again, 2, 0)
    again.compact()
    again.close()


def test_if_names_do_not_reach_the_disk_a_power_cut_leaves_an_earlier_whole_store(disk, judge, expected_states):
    class ForgetfulDisk(disk.CrashDisk):
        """A disk on which no folder can be synced: any of the names since the start may be there after a power cut."""

        def sync_folder(self):
            pass

    crashing = ForgetfulDisk()
    store = BaselineStore(crashing, EXERCISE_CAPACITY, SimulatedClock(0.0))
    operations = set()
    for _ in range(20):
        exercise(store, 1, 0)
        for folder in crashing.survivors():
            judged = judge(folder)
            if judged is None or "status" not in judged:
                operations.add(0)
                continue
            operations.add(judged["operation"])
            assert judged["damage"] == []
            expected = expected_states[judged["operation"]]
            assert {name: value for name, value in judged.items() if name in expected} == expected
    assert operations == set(range(21))

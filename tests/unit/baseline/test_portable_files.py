"""The file layer for Windows: what it refuses, and that a store on it is the same store."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from eguard.baseline import portable_files
from eguard.baseline.exercise import EXERCISE_CAPACITY, exercise
from eguard.baseline.files import FileLayer
from eguard.baseline.folder_files import FolderFiles
from eguard.baseline.portable_files import LOCK_NAME, PortableFiles
from eguard.baseline.recovery import recover
from eguard.baseline.store import BaselineStore
from eguard.baseline.store_dump import dump_state, read_store
from eguard.baseline.system_files import SystemFiles
from eguard.clock import SimulatedClock
from eguard.errors import BaselineStoreError

pytestmark = pytest.mark.usefixtures("msvcrt")
GOLDEN = Path(__file__).parents[2] / "golden" / "baseline_store_v1"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def files(folder):
    layer: FileLayer = PortableFiles(folder, exclusive=True)
    yield layer
    layer.release()


def exercised(layer):
    store = BaselineStore(layer, EXERCISE_CAPACITY, SimulatedClock(0.0))
    exercise(store, 40, 3)
    store.close()


def test_here_the_layer_of_posix_is_used():
    assert SystemFiles is FolderFiles


def test_both_layers_write_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("eguard.baseline.store.os.urandom", bytes)
    exercised(FolderFiles(tmp_path / "posix", exclusive=True))
    exercised(PortableFiles(tmp_path / "portable", exclusive=True))
    posix = {path.name: path.read_bytes() for path in (tmp_path / "posix").iterdir()}
    portable = {path.name: path.read_bytes() for path in (tmp_path / "portable").iterdir()}
    assert portable.pop(LOCK_NAME) == b""
    assert portable == posix
    assert len(posix) == 5


def test_the_golden_store_is_read_alike(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "golden")
    layer = PortableFiles(tmp_path / "golden", exclusive=False)
    found = recover(layer)
    expected, _ = read_store(GOLDEN)
    assert dump_state(found.table, found.facts) == dump_state(expected.table, expected.facts)
    assert found.operation == expected.operation > 0


def test_line_ends_are_asked_to_stay(files, folder, monkeypatch):
    asked = []

    def noted(path, flags, mode=0o777):
        asked.append(flags)
        return os.open(path, flags & ~0x8000, mode)

    monkeypatch.setattr(portable_files, "SAFE_FLAGS", portable_files.SAFE_FLAGS | 0x8000)  # with O_BINARY of Windows
    monkeypatch.setattr(portable_files, "os", type("Os", (), {**vars(os), "open": staticmethod(noted)}))
    handle = files.create("a")
    files.rename("a", "b")
    files.close(handle)
    files.close(files.open_existing("b"))
    assert files.read("b", 10) == b""
    assert len(asked) == 4
    assert all(flags & 0x8000 for flags in asked)


def test_a_file_that_is_renamed_is_written_on(files, folder):
    handle = files.create("new")
    files.write(handle, b"one\n")
    files.rename("new", "old")
    files.write(handle, b"two\n")
    files.sync_data(handle)
    files.close(handle)
    assert (folder / "old").read_bytes() == b"one\ntwo\n"
    assert files.names() == [LOCK_NAME, "old"]


def test_while_it_is_renamed_a_file_is_closed(files, folder, monkeypatch):
    handle = files.create("new")
    seen = []

    def watched(source, target):
        seen.extend(path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
        source.rename(target)

    monkeypatch.setattr(portable_files, "os", type("Os", (), {**vars(os), "replace": staticmethod(watched)}))
    files.rename("new", "old")
    files.close(handle)
    assert seen
    assert not {folder / "new", folder / "old"} & set(seen)


def test_a_reader_holds_a_rename_and_a_removal_up_and_does_not_stop_them(files, monkeypatch):
    refused = []

    def held(call):
        def once(*arguments):
            if call not in refused:
                refused.append(call)
                raise PermissionError(errno.EACCES, "in use")
            return call(*arguments)

        return staticmethod(once)

    held_calls = {"replace": held(os.replace), "unlink": held(os.unlink)}
    monkeypatch.setattr(portable_files, "os", type("Os", (), {**vars(os), **held_calls}))
    files.close(files.create("a"))
    files.rename("a", "b")
    files.unlink("b")
    assert len(refused) == 2
    assert files.names() == [LOCK_NAME]


def test_after_a_rename_that_failed_half_way_writing_fails(files, monkeypatch):
    handle = files.create("new")

    def full(*_):
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr(portable_files, "os", type("Os", (), {**vars(os), "fsync": staticmethod(full)}))
    with pytest.raises(OSError, match="bad sector"):
        files.rename("new", "old")
    with pytest.raises(OSError, match="not open"):
        files.write(handle, b"x")


def test_one_process_writes_and_others_may_read(files, folder):
    with pytest.raises(BaselineStoreError, match="another process") as refused:
        PortableFiles(folder, exclusive=True)
    assert "eGuardAgent" in refused.value.remedy
    reader = PortableFiles(folder, exclusive=False)
    assert reader.is_in_use
    reader.release()
    files.release()
    reader = PortableFiles(folder, exclusive=False)
    assert not reader.is_in_use
    PortableFiles(folder, exclusive=True).release()
    reader.release()


def test_a_refusal_leaves_nothing_open(files, folder):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(BaselineStoreError):
            PortableFiles(folder, exclusive=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_link_is_not_followed(files, folder, tmp_path):
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    (folder / "baselines.bin").symlink_to(target)
    with pytest.raises(OSError, match="regular"):
        files.read("baselines.bin", 100)
    with pytest.raises(OSError, match="regular"):
        files.open_existing("baselines.bin")
    files.close(files.create("baselines.bin"))
    assert target.read_bytes() == b"precious"
    assert not (folder / "baselines.bin").is_symlink()


def test_a_pipe_is_refused_at_once(files, folder):
    os.mkfifo(folder / "baselines.journal")
    with pytest.raises(OSError, match="regular"):
        files.read("baselines.journal", 100)


@pytest.mark.parametrize("make", [lambda path: path.symlink_to(path.parent), lambda path: path.touch()])
def test_a_folder_that_is_none_is_refused(folder, make):
    make(folder)
    for exclusive in (True, False):
        with pytest.raises(BaselineStoreError, match="cannot open"):
            PortableFiles(folder, exclusive=exclusive)


def test_a_folder_is_not_made_by_a_reader(folder):
    with pytest.raises(BaselineStoreError, match="cannot open"):
        PortableFiles(folder, exclusive=False)
    assert not folder.exists()

"""What the file layer refuses, and the modes it gives."""

import os
import stat
from pathlib import Path

import pytest

from eguard.baseline.folder_files import FolderFiles
from eguard.baseline.store import BaselineStore
from eguard.errors import BaselineStoreError


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_nobody_else_may_look(tmp_path):
    before = os.umask(0)
    try:
        with BaselineStore.open(tmp_path / "state") as store:
            store.set_policy_revision(1)
            store.compact()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert set(modes(tmp_path / "state").values()) == {0o600}


def test_a_link_is_not_followed(tmp_path):
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    (folder / "baselines.bin").symlink_to(target)
    with pytest.raises(BaselineStoreError, match=r"baselines\.bin"):
        BaselineStore.open(folder)
    assert target.read_bytes() == b"precious"


def test_links_in_the_place_of_new_files_are_replaced(tmp_path):
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    for name in ("baselines.bin.new", "baselines.journal.new", "baselines.journal.meta"):
        (folder / name).symlink_to(target)
    BaselineStore.open(folder).close()
    assert target.read_bytes() == b"precious"


def test_a_folder_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "state").symlink_to(tmp_path / "real")
    with pytest.raises(BaselineStoreError, match="cannot open"):
        BaselineStore.open(tmp_path / "state")


def test_a_pipe_is_refused_at_once(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / "baselines.journal")
    with pytest.raises(BaselineStoreError, match="regular"):
        BaselineStore.open(folder)


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path, mode):
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(BaselineStoreError) as refused:
        BaselineStore.open(folder)
    assert "chmod 700" in refused.value.remedy


def test_a_journal_that_others_may_write_to_is_refused(tmp_path):
    BaselineStore.open(tmp_path / "state").close()
    (tmp_path / "state" / "baselines.journal").chmod(0o666)
    with pytest.raises(BaselineStoreError, match="0666"):
        BaselineStore.open(tmp_path / "state")


def test_a_folder_is_not_made_by_a_reader(tmp_path):
    with pytest.raises(BaselineStoreError, match="cannot open"):
        FolderFiles(tmp_path / "state", exclusive=False)
    assert not (tmp_path / "state").exists()


def test_a_lock_that_was_refused_leaves_nothing_open(tmp_path):
    first = FolderFiles(tmp_path / "state", exclusive=True)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(BaselineStoreError):
            FolderFiles(tmp_path / "state", exclusive=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    reader = FolderFiles(tmp_path / "state", exclusive=False)
    assert reader.is_in_use
    reader.release()
    first.release()
    FolderFiles(tmp_path / "state", exclusive=True).release()

"""Waiting for readers, and for nothing else."""

import errno
import os
import sys

import pytest

from eguard.baseline import portable_calls
from eguard.baseline.portable_calls import SAFE_FLAGS, past_readers, replace_file, sync_folder


class Refusals:
    """A call that the system refuses so many times."""

    def __init__(self, count, error=None):
        self.count, self.calls = count, 0
        self.error = error or PermissionError(errno.EACCES, "in use")

    def __call__(self, *_):
        self.calls += 1
        if self.calls <= self.count:
            raise self.error


def test_what_is_held_for_a_moment_is_waited_for():
    change = Refusals(3)
    past_readers(change)
    assert change.calls == 4


def test_what_stays_held_is_refused_after_the_time_given():
    change = Refusals(1000)
    with pytest.raises(PermissionError):
        past_readers(change, 0.03)
    assert 2 <= change.calls <= 4


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.ENOENT])
def test_another_failure_is_not_tried_again(number):
    change = Refusals(1, OSError(number, "no"))
    with pytest.raises(OSError, match="no"):
        past_readers(change)
    assert change.calls == 1


def test_only_windows_waits(tmp_path, monkeypatch):
    refusals = Refusals(1)
    monkeypatch.setattr(os, "replace", refusals)
    with pytest.raises(PermissionError):
        replace_file(tmp_path / "a", tmp_path / "b")
    assert refusals.calls == 1
    monkeypatch.setattr(sys, "platform", "win32")
    replace_file(tmp_path / "a", tmp_path / "b")
    assert refusals.calls == 2


def test_a_file_takes_the_place_of_another(tmp_path):
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    replace_file(tmp_path / "a", tmp_path / "b")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b", b"new")]


def test_a_folder_is_synced_where_that_can_be_done(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(portable_calls.os, "fsync", synced.append)
    sync_folder(tmp_path)
    assert len(synced) == 1
    monkeypatch.setattr(sys, "platform", "win32")
    sync_folder(tmp_path)
    assert len(synced) == 1


def test_here_a_link_is_not_followed(tmp_path):
    assert SAFE_FLAGS == os.O_NOFOLLOW | os.O_CLOEXEC
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").touch()
    with pytest.raises(OSError, match="symbolic links"):
        os.open(tmp_path / "link", os.O_RDONLY | SAFE_FLAGS)

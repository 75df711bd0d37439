"""One holder at a time, and what a holder's end leaves."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from eguard.baseline.lock_file import LockFile

pytestmark = pytest.mark.usefixtures("msvcrt")


def test_the_second_is_refused_until_the_first_lets_go(tmp_path):
    first, second = LockFile(tmp_path / "lock"), LockFile(tmp_path / "lock")
    assert first.take()
    assert not second.take()
    assert second.is_held()
    first.release()
    assert not second.is_held()
    assert second.take()
    second.release()
    second.release()


def test_asking_makes_nothing(tmp_path):
    assert not LockFile(tmp_path / "lock").is_held()
    assert list(tmp_path.iterdir()) == []


def test_a_file_left_behind_locks_nobody_out(tmp_path):
    program = (
        "import fcntl, os, sys\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "lock")], check=False)
    assert (tmp_path / "lock").exists()
    assert LockFile(tmp_path / "lock").take()


def test_a_reader_who_is_asking_does_not_keep_a_writer_out(tmp_path, msvcrt):
    (tmp_path / "lock").touch()
    handle = os.open(tmp_path / "lock", os.O_RDONLY)
    msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    asking = threading.Thread(target=lambda: (time.sleep(0.05), os.close(handle)))
    asking.start()
    writer = LockFile(tmp_path / "lock")
    assert writer.take()
    asking.join()
    writer.release()


def test_a_lock_that_fails_for_another_reason_is_an_error(tmp_path, msvcrt, monkeypatch):
    def broken(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(msvcrt, "locking", broken)
    with pytest.raises(OSError, match="no locks"):
        LockFile(tmp_path / "lock").take()

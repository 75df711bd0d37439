"""Checks of the state folder: whose it is, whether a write survives a power cut, and how much room is left."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from eguard.operations.check import Finding, failed, ok, skipped, warning
from eguard.operations.examination import Examination

_MEBIBYTE: Final = 1 << 20
_NOT_POSIX: Final = "looked at on POSIX systems only"
#: Snapshots, journals and a bundle of each of two versions, beside the alert buffer.
_WORKING_BYTES: Final = 256 * _MEBIBYTE
_LEAST_BYTES: Final = 16 * _MEBIBYTE
_FOLDER_MODE: Final = 0o700
_WRITABLE_BY_OTHERS: Final = 0o022
_FEW_INODES: Final = 1000
_LEAST_INODES: Final = 32
_PROBE_BYTES: Final = 4096
#: Learned counts are synced every second; a disk that takes this long holds them up.
_SLOW_SECONDS: Final = 0.5


def check_state_folder(examination: Examination) -> Finding:
    """Check that the state folder is a real folder of this user that nobody else can enter."""
    folder = examination.settings.state_path
    if os.name != "posix":
        return skipped(_NOT_POSIX)
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return skipped(f"{folder} does not exist; the agent makes it when it starts")
    except OSError as error:
        return skipped(f"{folder} cannot be looked at ({error.strerror}); run it as the agent's user")
    if stat.S_ISLNK(found.st_mode):
        return failed(f"{folder} is a symbolic link", f"Set EGUARD_STATE_PATH to the folder itself: {folder.resolve()}")
    if not stat.S_ISDIR(found.st_mode):
        return failed(f"{folder} is not a folder", "Move that file away; the agent makes the folder when it starts.")
    return _judge_owner(folder, found)


def _judge_owner(folder: Path, found: os.stat_result) -> Finding:
    if found.st_uid != os.geteuid():
        return skipped(
            f"{folder} belongs to user {found.st_uid}, and this is user {os.geteuid()}; run it as the agent's user"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode != _FOLDER_MODE:
        finding = failed if mode & _WRITABLE_BY_OTHERS else warning
        return finding(f"{folder} has mode {mode:04o}, so others can reach what is in it", f"sudo chmod 700 {folder}")
    return ok(f"{folder}, mode 0700, user {found.st_uid}")


def check_durable_writes(examination: Examination) -> Finding:
    """Check that a file can be written, synced and renamed in the state folder."""
    folder = examination.settings.state_path
    if os.name != "posix":
        return skipped(_NOT_POSIX)
    if not folder.is_dir():
        return skipped(f"{folder} does not exist")
    try:
        seconds = _write_durably(folder)
    except PermissionError as error:
        return skipped(f"this user may not write to {folder} ({error.strerror}); run it as the agent's user")
    except OSError as error:
        return failed(
            f"{folder} does not keep what is written: {error.strerror}",
            "Look for a full or read-only file system (df -h, findmnt, dmesg), or set EGUARD_STATE_PATH elsewhere.",
        )
    if seconds > _SLOW_SECONDS:
        return warning(
            f"writing and syncing 4 KiB in {folder} took {seconds:.2f} s",
            "Set EGUARD_STATE_PATH to a faster disk; `eguard store exercise` shows it at length.",
        )
    return ok(f"written, synced and renamed in {seconds * 1000:.1f} ms")


def _write_durably(folder: Path) -> float:
    """Write, sync, rename and remove a small file; return the seconds until it was safe."""
    started = time.perf_counter()
    handle, name = tempfile.mkstemp(prefix=".doctor-", dir=folder)
    try:
        try:
            os.write(handle, bytes(_PROBE_BYTES))
            os.fsync(handle)
        finally:
            os.close(handle)
        renamed = Path(name).rename(f"{name}.renamed")
        name = str(renamed)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return time.perf_counter() - started
    finally:
        with suppress(OSError):
            Path(name).unlink()


def check_disk_space(examination: Examination) -> Finding:
    """Check that the file system has bytes and inodes for everything that the agent may keep."""
    settings = examination.settings
    if os.name != "posix":
        return skipped(_NOT_POSIX)
    folder = next(each for each in (settings.state_path, *settings.state_path.absolute().parents) if each.exists())
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    wanted = settings.alert_buffer_max_bytes + _WORKING_BYTES
    # Some file systems have no fixed number of inodes and report none at all.
    inodes = found.f_favail if found.f_files else None
    words = f"{free / _MEBIBYTE:,.0f} MiB free at {folder}" + ("" if inodes is None else f", {inodes:,} inodes")
    remedy = f"Make room on the file system of {folder} (df -h, df -i), or set EGUARD_STATE_PATH to another disk."
    if free < _LEAST_BYTES or (inodes is not None and inodes < _LEAST_INODES):
        return failed(words, remedy)
    if free < wanted:
        return warning(f"{words}; the agent may need {wanted / _MEBIBYTE:,.0f} MiB", remedy)
    if inodes is not None and inodes < _FEW_INODES:
        return warning(f"{words}: few inodes", remedy)
    return ok(words)

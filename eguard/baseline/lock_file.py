"""One process at a time, on a system that locks bytes of files and not folders: Windows.

The lock is on the first byte of a file that stays empty. It goes with the process that holds it, however that ended, so
a file that is left behind locks nobody out.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Final

from eguard.baseline.portable_calls import SAFE_FLAGS, past_readers

#: A reader that asks whether the lock is held holds it itself for that moment.
_PATIENCE_SECONDS: Final = 0.2
_FILE_MODE: Final = 0o600


class LockFile:
    """The lock of one folder.

    Parameters
    ----------
    path : Path
        The file, made where a writer finds none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def take(self) -> bool:
        """Take the lock until `release`; return whether it was free.

        Raises
        ------
        OSError
            The file cannot be made or locked.
        """
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | SAFE_FLAGS, _FILE_MODE)
        is_free = False
        try:
            is_free = _locked(handle, _PATIENCE_SECONDS)
        finally:
            if not is_free:
                os.close(handle)
        self._handle = handle if is_free else None
        return is_free

    def is_held(self) -> bool:
        """Return whether some process has the lock. Makes nothing."""
        try:
            handle = os.open(self.path, os.O_RDONLY | SAFE_FLAGS)
        except FileNotFoundError:
            return False
        try:
            return not _locked(handle, 0.0)
        finally:
            os.close(handle)  # gives the lock back, too

    def release(self) -> None:
        """Give the lock back, if it was taken."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _locked(handle: int, patience_seconds: float) -> bool:
    # Typed where it exists only.
    msvcrt: Any = importlib.import_module("msvcrt")
    try:
        past_readers(lambda: msvcrt.locking(handle, msvcrt.LK_NBLCK, 1), patience_seconds)
    except PermissionError:
        return False
    return True

"""The calls on files that Windows does not have, or refuses where others do not.

Elsewhere each of them is exactly the one system call that it stands for.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: For opening a file of ours: follow no link, pass it to no child process, and write bytes as they are. The last is
#: Windows' own: without it every line end would become two bytes. A system has those of them that mean anything there.
SAFE_FLAGS: Final[int] = (
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)  # fmt: skip
#: How long a name is waited for that somebody else has open; readers and virus scanners have it for milliseconds.
HELD_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.01


def sync_folder(folder: Path) -> None:
    """Return once the names in a folder are on the disk.

    Windows cannot sync a folder; NTFS writes names to its own journal. There nothing is done.
    """
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def replace_file(source: Path, target: Path) -> None:
    """Give a file the name of another, which is replaced at once, even while somebody reads it.

    Raises
    ------
    OSError
        The system refused; nothing was changed.
    """
    if sys.platform == "win32":
        past_readers(lambda: os.replace(source, target))  # noqa: PTH105 - of two paths the call says which is which
    else:
        source.replace(target)


def past_readers(change: Callable[[], object], patience_seconds: float = HELD_SECONDS) -> None:
    """Do what Windows refuses for as long as another process has the file open, once it does not any more.

    A refusal has changed nothing, so that trying again is safe, unlike after a failed write.

    Raises
    ------
    PermissionError
        It was refused for `patience_seconds`.
    """
    until = time.monotonic() + patience_seconds
    while True:
        try:
            change()
        except PermissionError:
            if time.monotonic() >= until:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return

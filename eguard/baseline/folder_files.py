"""The file layer of the baseline store on POSIX systems.

All names are relative to one folder that is held open, so that nobody who renames a path on the way can redirect a
write.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from eguard.errors import BaselineStoreError

_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_WRITABLE_BY_OTHERS: Final = 0o022
_READ_BLOCK_BYTES: Final = 1 << 20


class FolderFiles:
    """The files of one real folder, locked for one process.

    Parameters
    ----------
    folder : Path
        The folder. With `exclusive` it is made (mode 0700) where it is missing, but not its parents.
    exclusive : bool
        Take the lock that a writer needs. Without it the folder is only read, locked or not; `is_in_use` says which.

    Raises
    ------
    BaselineStoreError
        The folder is missing, a link, somebody else's, writable by others, or another process writes to it.
    """

    def __init__(self, folder: Path, *, exclusive: bool) -> None:
        self.folder = folder
        self.is_in_use = False
        if exclusive:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=_FOLDER_MODE)
        try:
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise BaselineStoreError(
                f"cannot open the store's folder {folder}: {error.strerror}",
                remedy="Name a folder whose parent exists and that is no symbolic link.",
                folder=str(folder),
            ) from error
        try:
            if exclusive:
                self._refuse_foreign(os.fstat(self._folder), str(folder), "chmod 700")
            self._lock(exclusive=exclusive)
        except BaselineStoreError:
            os.close(self._folder)
            raise

    def _lock(self, *, exclusive: bool) -> None:
        try:
            fcntl.flock(self._folder, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.is_in_use = True
            if exclusive:
                raise BaselineStoreError(
                    f"another process has the store in {self.folder} open",
                    remedy="Stop the other agent (systemctl stop eguard-agent), or give this one a folder of its own.",
                    folder=str(self.folder),
                ) from error

    @staticmethod
    def _refuse_foreign(found: os.stat_result, name: str, command: str) -> None:
        if found.st_uid != os.geteuid():
            raise BaselineStoreError(
                f"{name} belongs to user {found.st_uid}, and this process runs as user {os.geteuid()}",
                remedy="Run as the owner, or hand the folder over with chown -R.",
                path=name,
            )
        if found.st_mode & _WRITABLE_BY_OTHERS:
            raise BaselineStoreError(
                f"{name} can be written by others (mode {stat.S_IMODE(found.st_mode):04o})",
                remedy=f"Close it: {command} {name}",
                path=name,
            )

    def _open(self, name: str, flags: int) -> int:
        """Open a regular file; a link fails in the kernel, a pipe or device here, before anything blocks on it."""
        always = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        handle = os.open(name, flags | always, _FILE_MODE, dir_fd=self._folder)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            os.close(handle)
            raise OSError(0, "not a regular file", name)
        return handle

    def names(self) -> list[str]:
        """Return the names in the folder, sorted."""
        with os.scandir(self._folder) as entries:
            return sorted(entry.name for entry in entries)

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """Return at most `max_bytes + 1` bytes of a file, None where there is none."""
        try:
            handle = self._open(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        blocks: list[bytes] = []
        wanted = max_bytes + 1
        try:
            while wanted > 0 and (block := os.read(handle, min(wanted, _READ_BLOCK_BYTES))):
                blocks.append(block)
                wanted -= len(block)
        finally:
            os.close(handle)
        return b"".join(blocks)

    def create(self, name: str) -> int:
        """Make an empty file in the place of any other of that name and return a handle for writing."""
        self.unlink(name)  # O_EXCL then makes sure that the new file has our owner and mode, not an old one's
        return self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def open_existing(self, name: str) -> int:
        """Return a handle that writes at the end of a file."""
        handle = self._open(name, os.O_WRONLY | os.O_APPEND)
        try:
            self._refuse_foreign(os.fstat(handle), str(self.folder / name), "chmod 600")
        except BaselineStoreError:
            os.close(handle)
            raise
        return handle

    def write(self, handle: int, data: bytes) -> None:
        """Write all of `data`; the kernel may take it in parts."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]

    def sync(self, handle: int) -> None:
        """Return once the file, its length included, is on the disk."""
        os.fsync(handle)

    def sync_data(self, handle: int) -> None:
        """Return once what is needed to read the file back is on the disk."""
        os.fdatasync(handle)

    def truncate(self, handle: int, length: int) -> None:
        """Cut the file."""
        os.ftruncate(handle, length)

    def close(self, handle: int) -> None:
        """Give the handle back."""
        os.close(handle)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name; a file of that name is replaced at once."""
        os.rename(source, target, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def unlink(self, name: str) -> None:
        """Remove a file; it is no error if there is none."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)

    def sync_folder(self) -> None:
        """Return once the names in the folder are on the disk."""
        os.fsync(self._folder)

    def release(self) -> None:
        """Give the folder and its lock back."""
        os.close(self._folder)

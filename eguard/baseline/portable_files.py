"""The file layer of the baseline store where folders cannot be opened, locked or synced: Windows.

What differs from `eguard.baseline.folder_files`, and what takes its place:

* no folder is held open, so names are paths. Whoever can redirect a path on the way must be kept out by access lists;
* a lock on a file (`eguard.baseline.lock_file`) instead of one on the folder;
* a file that is open cannot be renamed: `rename` closes it and opens it again, behind a handle that stays the same;
* no sync of a folder. NTFS writes names to a journal of its own, in order; flushing a renamed file, which `rename`
  does, is what a program can do towards having that journal on the disk;
* no owners and modes. Links are looked for before a file is opened, not by the call that opens it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eguard.baseline.lock_file import LockFile
from eguard.baseline.portable_calls import SAFE_FLAGS, past_readers
from eguard.errors import BaselineStoreError

LOCK_NAME: Final = "baselines.lock"
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_READ_BLOCK_BYTES: Final = 1 << 20


@dataclass(slots=True)
class _OpenFile:
    """A file open for writing: under which name, and the system's number of it."""

    name: str
    descriptor: int


class PortableFiles:
    """The files of one folder, locked for one process, with calls that every system has.

    Parameters
    ----------
    folder : Path
        The folder. With `exclusive` it is made where it is missing, but not its parents.
    exclusive : bool
        Take the lock that a writer needs. Without it the folder is only read, locked or not; `is_in_use` says which.

    Raises
    ------
    BaselineStoreError
        The folder is missing, a link or no folder, cannot be locked, or another process writes to it.
    """

    def __init__(self, folder: Path, *, exclusive: bool) -> None:
        self.folder = folder
        self.is_in_use = False
        self._open_files: dict[int, _OpenFile] = {}
        self._last_handle = 0
        self._lock = LockFile(folder / LOCK_NAME)
        try:
            if exclusive:
                with contextlib.suppress(FileExistsError):
                    folder.mkdir(mode=_FOLDER_MODE)
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "not a folder, or a link to one", str(folder))
            self.is_in_use = not self._lock.take() if exclusive else self._lock.is_held()
        except OSError as error:
            raise BaselineStoreError(
                f"cannot open the store's folder {folder}: {error.strerror or error}",
                remedy="Name a folder whose parent exists, that is no symbolic link, and that this user may write to.",
                folder=str(folder),
            ) from error
        if exclusive and self.is_in_use:
            raise BaselineStoreError(
                f"another process has the store in {folder} open",
                remedy="Stop the other agent (the service eGuardAgent), or give this one a folder of its own.",
                folder=str(folder),
            )

    def names(self) -> list[str]:
        """Return the names in the folder, sorted."""
        with os.scandir(self.folder) as entries:
            return sorted(entry.name for entry in entries)

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """Return at most `max_bytes + 1` bytes of a file, None where there is none."""
        try:
            descriptor = self._open(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        blocks: list[bytes] = []
        wanted = max_bytes + 1
        try:
            while wanted > 0 and (block := os.read(descriptor, min(wanted, _READ_BLOCK_BYTES))):
                blocks.append(block)
                wanted -= len(block)
        finally:
            os.close(descriptor)
        return b"".join(blocks)

    def create(self, name: str) -> int:
        """Make an empty file in the place of any other of that name and return a handle for writing."""
        self.unlink(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE_FLAGS
        return self._handle_of(name, os.open(self.folder / name, flags, _FILE_MODE))

    def open_existing(self, name: str) -> int:
        """Return a handle that writes at the end of a file."""
        return self._handle_of(name, self._open(name, os.O_WRONLY | os.O_APPEND))

    def write(self, handle: int, data: bytes) -> None:
        """Write all of `data`; the system may take it in parts."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor(handle), rest) :]

    def sync(self, handle: int) -> None:
        """Return once the file, its length included, is on the disk."""
        os.fsync(self._descriptor(handle))

    def sync_data(self, handle: int) -> None:
        """Return once what is needed to read the file back is on the disk: all of it, for Windows knows no less."""
        os.fsync(self._descriptor(handle))

    def truncate(self, handle: int, length: int) -> None:
        """Cut the file."""
        os.ftruncate(self._descriptor(handle), length)

    def close(self, handle: int) -> None:
        """Give the handle back."""
        descriptor = self._descriptor(handle)
        del self._open_files[handle]
        os.close(descriptor)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name; a file of that name is replaced at once. Handles of the file go on working."""
        held = [handle for handle, file in self._open_files.items() if file.name == source]
        for handle in held:
            self.close(handle)
        past_readers(lambda: os.replace(self.folder / source, self.folder / target))  # noqa: PTH105 - as in `unlink`
        descriptor = self._open(target, os.O_WRONLY | os.O_APPEND)
        try:
            os.fsync(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        if not held:
            os.close(descriptor)
        for handle in held:
            self._open_files[handle] = _OpenFile(target, descriptor)

    def unlink(self, name: str) -> None:
        """Remove a file; it is no error if there is none."""
        with contextlib.suppress(FileNotFoundError):
            past_readers(lambda: os.unlink(self.folder / name))  # noqa: PTH108 - beside the other calls of `os`

    def sync_folder(self) -> None:
        """Do nothing: there is no such call on Windows. `rename` has done what can be done."""

    def release(self) -> None:
        """Give everything back: the lock, and files that a failure left open. Open, they could not be renamed."""
        for handle in list(self._open_files):
            with contextlib.suppress(OSError):
                self.close(handle)
        self._lock.release()

    def _open(self, name: str, flags: int) -> int:
        """Open a regular file. Who can put a link there between the two calls can write to the folder anyway."""
        path = self.folder / name
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        return os.open(path, flags | SAFE_FLAGS, _FILE_MODE)

    def _handle_of(self, name: str, descriptor: int) -> int:
        self._last_handle += 1
        self._open_files[self._last_handle] = _OpenFile(name, descriptor)
        return self._last_handle

    def _descriptor(self, handle: int) -> int:
        file = self._open_files.get(handle)
        if file is None:  # a rename failed between closing the file and opening it again
            raise OSError(errno.EBADF, "the file is not open any more")
        return file.descriptor

"""What the baseline store asks of a disk: the few calls through which it touches it, and nothing else.

All names are relative to one folder. The interface is small on purpose: a test can stand in for it, fail at any call
and forget what was not synced. `eguard.baseline.system_files` has the layer of the system that this runs on.
"""

from __future__ import annotations

from typing import Protocol


class FileLayer(Protocol):
    """What the store asks of a folder. Every call may raise OSError; none retries."""

    def names(self) -> list[str]:
        """Return the names in the folder, sorted."""

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """Return at most `max_bytes + 1` bytes of a file, None where there is none."""

    def create(self, name: str) -> int:
        """Make an empty file in the place of any other of that name and return a handle for writing."""

    def open_existing(self, name: str) -> int:
        """Return a handle that writes at the end of a file."""

    def write(self, handle: int, data: bytes) -> None:
        """Write all of `data`."""

    def sync(self, handle: int) -> None:
        """Return once the file, its length included, is on the disk."""

    def sync_data(self, handle: int) -> None:
        """Return once what is needed to read the file back is on the disk."""

    def truncate(self, handle: int, length: int) -> None:
        """Cut the file."""

    def close(self, handle: int) -> None:
        """Give the handle back."""

    def rename(self, source: str, target: str) -> None:
        """Give a file another name; a file of that name is replaced at once."""

    def unlink(self, name: str) -> None:
        """Remove a file; it is no error if there is none."""

    def sync_folder(self) -> None:
        """Return once the names in the folder are on the disk."""

    def release(self) -> None:
        """Give the folder and its lock back."""

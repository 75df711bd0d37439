"""What a baseline had learned before it was told to forget it: one JSON line a profile, bounded, written first.

Counts that a drift alarm or a policy throws away are the only record of what a process used to do. They are on the disk
before the profile forgets them; a crash between the two leaves a line too many and loses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from eguard.baseline.portable_calls import SAFE_FLAGS, replace_file, sync_folder
from eguard.baseline.slots import ProcessKey
from eguard.errors import BaselineStoreError
from eguard.wire.process_key import encode_process_key

#: The file is put aside, in the place of the one before, when it is this long.
MAX_ARCHIVE_BYTES: Final = 4 << 20
_FILE_MODE: Final = 0o600


class ArchivedProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The counts of one process key, by event class, as they were when they were given up, and why."""

    archived_at_unix: float
    reason: str
    process_key: str
    counts: tuple[int, ...]


class BaselineArchive:
    """Counts that were given up, in a file beside the store and the one before it.

    Parameters
    ----------
    path : Path
        The file; its folder has to exist.
    max_bytes : int
        Length at which a new file is begun.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> archive = BaselineArchive(Path(mkdtemp()) / "archive.jsonl")
    >>> archive.keep({("sh", "cron"): (3, 0, 0, 1, 0, 0, 0, 0)}, reason="drift", now=100.0)
    >>> [(line.process_key, line.reason) for line in archive.read()]
    [('sh:cron', 'drift')]
    """

    def __init__(self, path: Path, max_bytes: int = MAX_ARCHIVE_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes

    @property
    def _previous(self) -> Path:
        return self.path.with_name(self.path.name + ".1")

    def keep(self, counts: Mapping[ProcessKey, Sequence[int]], *, reason: str, now: float) -> None:
        """Write the counts of profiles that are about to forget them, and return once they are on the disk.

        Raises
        ------
        BaselineStoreError
            They could not be written; then they must not be forgotten on the disk either.
        """
        lines = [
            msgspec.json.encode(ArchivedProfile(now, reason, encode_process_key(*key), tuple(map(int, row))))
            for key, row in counts.items()
        ]
        if not lines:
            return
        try:
            self._append(b"".join(line + b"\n" for line in lines))
        except OSError as error:
            raise BaselineStoreError(
                f"cannot archive {len(lines)} profiles in {self.path}: {error.strerror or error}",
                remedy="Check the disk (dmesg, df). Until then the profiles stay as they are on the disk.",
            ) from error

    def read(self) -> Iterator[ArchivedProfile]:
        """Iterate over what is kept, oldest first; a line that a crash cut off is passed over."""
        decoder = msgspec.json.Decoder(ArchivedProfile)
        for path in (self._previous, self.path):
            if path.exists():
                for line in path.read_bytes().splitlines():
                    try:
                        yield decoder.decode(line)
                    except msgspec.DecodeError:
                        continue

    def _append(self, data: bytes) -> None:
        if self.path.exists() and self.path.stat().st_size + len(data) > self._max_bytes:
            replace_file(self.path, self._previous)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | SAFE_FLAGS, _FILE_MODE)
        try:
            # A line of an earlier crash may have no end; this one must not continue it.
            rest = memoryview(b"\n" + data if self._is_torn() else data)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_folder(self.path.parent)

    def _is_torn(self) -> bool:
        with self.path.open("rb") as stream:
            if stream.seek(0, os.SEEK_END) == 0:
                return False
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) != b"\n"

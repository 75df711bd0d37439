"""The journal that is being written: operations are added at its end and nowhere else."""

from __future__ import annotations

from eguard.baseline.changes import encode_changes
from eguard.baseline.facts import StoreFacts
from eguard.baseline.files import FileLayer
from eguard.baseline.framing import FileHeader, encode_journal_header, encode_record
from eguard.baseline.recovery import JOURNAL, NEW_JOURNAL


class Journal:
    """An open journal.

    Parameters
    ----------
    files : FileLayer
        The folder.
    handle : int
        Of the journal's file, writing at its end.
    header : FileHeader
        What the file begins with.
    size : int
        Bytes of the file.
    """

    def __init__(self, files: FileLayer, handle: int, header: FileHeader, size: int) -> None:
        self.header = header
        self.size = size
        self._files = files
        self._handle = handle

    @classmethod
    def start(cls, files: FileLayer, header: FileHeader) -> Journal:
        """Put an empty journal in the place of the present one; it is on the disk when this returns."""
        data = encode_journal_header(header)
        handle = files.create(NEW_JOURNAL)
        files.write(handle, data)
        files.sync(handle)
        files.rename(NEW_JOURNAL, JOURNAL)
        files.sync_folder()
        return cls(files, handle, header, len(data))

    def append(self, operation: int, facts: StoreFacts, blocks: dict[int, bytes]) -> None:
        """Hand one operation to the kernel in one write."""
        data = encode_record(self.header.generation, operation, encode_changes(facts, blocks))
        self._files.write(self._handle, data)
        self.size += len(data)

    def sync(self) -> None:
        """Return once all that was appended is on the disk."""
        self._files.sync_data(self._handle)

    def close(self) -> None:
        """Give the handle back."""
        self._files.close(self._handle)


def cut_journal(files: FileLayer, length: int) -> None:
    """Cut an unfinished last write off the journal."""
    handle = files.open_existing(JOURNAL)
    files.truncate(handle, length)
    files.sync(handle)
    files.close(handle)

"""From the bytes in a store's folder to the state they stand for. Reads only; never raises on bytes.

A snapshot is the state after some operation; a journal holds the operations after another. Starting from the newest
intact snapshot, every journal that begins where the state has got to is applied, in turn. That one rule covers the
ordinary start, every moment of an unfinished compaction, and the return to the previous generation when the newest
snapshot is damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from eguard.baseline.changes import decode_changes
from eguard.baseline.facts import StoreFacts
from eguard.baseline.files import FileLayer
from eguard.baseline.framing import MAX_FILE_BYTES, FileHeader, decode_snapshot, scan_journal
from eguard.baseline.image import StoreImage
from eguard.baseline.profile import DEFAULT_CAPACITY, ProfileTable
from eguard.errors import BaselineStoreError, StoreCorruptError

SNAPSHOT: Final = "baselines.bin"
JOURNAL: Final = "baselines.journal"
META: Final = "baselines.journal.meta"
PREVIOUS_SNAPSHOT: Final = "baselines.bin.previous"
PREVIOUS_JOURNAL: Final = "baselines.journal.previous"
NEW_SNAPSHOT: Final = "baselines.bin.new"
NEW_JOURNAL: Final = "baselines.journal.new"

_Parsed = TypeVar("_Parsed")


class Problem(NamedTuple):
    """Damage that was found: in which file, of which kind (`checksum`, `damaged_middle`, ...), and in words."""

    file: str
    kind: str
    reason: str


class Recovered(NamedTuple):
    """The state of a folder and how it was found.

    Attributes
    ----------
    table, facts : ProfileTable, StoreFacts
        The state after operation number `operation`.
    operation, generation : int
        The last operation applied; the highest generation among the files.
    incarnation : bytes
        The folder's life; empty where the folder holds no intact file.
    base : str
        The snapshot that was started from; empty for none.
    replayed : int
        Operations taken from journals.
    torn : dict of str to int
        Bytes of unfinished last writes, by journal.
    problems : list of Problem
        Damage; empty after a mere crash.
    sizes : dict of str to int
        Bytes of the files read.
    is_lossy : bool
        Whether operations may have been lost that were acknowledged.
    is_settled : bool
        Whether a writer may go on in the journal as it stands: nothing to repair, and nothing replayed.
    """

    table: ProfileTable
    facts: StoreFacts
    operation: int
    generation: int
    incarnation: bytes
    base: str
    replayed: int
    torn: dict[str, int]
    problems: list[Problem]
    sizes: dict[str, int]
    is_lossy: bool
    is_settled: bool


class _Folder:
    """The files of a folder, read and parsed, with what was wrong with them."""

    def __init__(self, files: FileLayer) -> None:
        self.problems: list[Problem] = []
        self.sizes: dict[str, int] = {}
        self._files = files
        self.snapshots = self._parse((SNAPSHOT, PREVIOUS_SNAPSHOT), decode_snapshot)
        self.journals = self._parse((JOURNAL, PREVIOUS_JOURNAL), scan_journal)

    def _parse(self, names: tuple[str, ...], parse: Callable[[bytes], _Parsed]) -> dict[str, _Parsed]:
        parsed: dict[str, _Parsed] = {}
        for name in names:
            try:
                data = self._files.read(name, MAX_FILE_BYTES)
            except OSError as error:
                raise BaselineStoreError(
                    f"cannot read {name}: {error.strerror or error}",
                    remedy="The store's files are ordinary files on a healthy disk; check both before starting again.",
                    file=name,
                ) from error
            if data is None:
                continue
            self.sizes[name] = len(data)
            try:
                parsed[name] = parse(data)
            except StoreCorruptError as error:
                self.problems.append(Problem(name, "unreadable", error.message))
        return parsed


def recover(files: FileLayer, capacity: int | None = None) -> Recovered:
    """Return the state that the files stand for, in a table of `capacity` slots, or as many as the writer had.

    Raises
    ------
    BaselineStoreError
        A file cannot be read at all, or is intact and of a later format; never because of damage.
    """
    folder = _Folder(files)
    base, header, image = _start(folder, capacity or DEFAULT_CAPACITY)
    capacity = capacity or header.capacity
    operation, replayed, applied = header.operation, 0, set[str]()
    while (name := _next_journal(folder, header, operation, applied)) is not None:
        applied.add(name)
        for record in folder.journals[name].records:
            try:
                image.apply(decode_changes(record.changes))
            except StoreCorruptError as error:
                reason = f"operation {record.operation} at {record.offset}: {error.message}"
                folder.problems.append(Problem(name, "impossible_record", reason))
                break
            operation += 1
            replayed += 1
    _judge_endings(folder, operation, header.incarnation)
    scans = folder.journals.values()
    torn = {
        name: folder.sizes[name] - scan.valid_bytes for name, scan in folder.journals.items() if scan.ending == "torn"
    }
    current = folder.journals.get(JOURNAL)
    is_settled = (
        base == SNAPSHOT
        and not folder.problems
        and not replayed
        and header.capacity == capacity
        and current is not None
        and (current.header.generation, current.valid_bytes) == (header.generation, folder.sizes[JOURNAL])
    )
    return Recovered(
        table=image.finish(capacity),
        facts=image.facts,
        operation=operation,
        generation=max([header.generation, *(scan.header.generation for scan in scans), *_generations(folder)]),
        incarnation=header.incarnation,
        base=base,
        replayed=replayed,
        torn=torn,
        problems=folder.problems,
        sizes=folder.sizes,
        is_lossy=_is_lossy(folder, header, operation),
        is_settled=is_settled,
    )


def _is_lossy(folder: _Folder, header: FileHeader, operation: int) -> bool:
    """Return whether damage may have cost operations; none if an intact newer journal was reached all the same."""
    files = {problem.file for problem in folder.problems}
    current = folder.journals.get(JOURNAL)
    if current is not None and JOURNAL not in files and current.header.incarnation == header.incarnation:
        return current.header.operation > operation
    return bool(files)


def _generations(folder: _Folder) -> list[int]:
    return [header.generation for header, _ in folder.snapshots.values()]


def _start(folder: _Folder, capacity: int) -> tuple[str, FileHeader, StoreImage]:
    """Return the newest snapshot that can be read, or the empty state that a first journal starts from."""
    newest_first = sorted(folder.snapshots.items(), key=lambda item: -item[1][0].operation)
    for name, (header, body) in newest_first:
        image = StoreImage(header.capacity)
        try:
            image.apply(decode_changes(body))
        except StoreCorruptError as error:
            folder.problems.append(Problem(name, "impossible_content", error.message))
            continue
        return name, header, image
    first = next((scan.header for scan in folder.journals.values() if scan.header.operation == 0), None)
    if first is None:
        return "", FileHeader(0, 0, b"", capacity), StoreImage(capacity)
    return "", first, StoreImage(first.capacity)


def _next_journal(folder: _Folder, header: FileHeader, operation: int, applied: set[str]) -> str | None:
    """Return the journal that goes on where the state has got to."""
    for name, scan in folder.journals.items():
        is_ours = scan.header.incarnation == header.incarnation and scan.header.generation >= header.generation
        if name not in applied and is_ours and scan.records and scan.header.operation == operation:
            return name
    return None


def _judge_endings(folder: _Folder, operation: int, incarnation: bytes) -> None:
    """Report damaged middles and journals that hold operations which the state did not get to."""
    for name, scan in folder.journals.items():
        begins = scan.header.operation
        if scan.ending == "damaged":
            folder.problems.append(Problem(name, "damaged_middle", scan.reason))
        if not incarnation:
            reason = f"the journal starts after operation {begins}, and there is no snapshot to start from"
            folder.problems.append(Problem(name, "no_snapshot", reason))
        elif scan.header.incarnation != incarnation:
            # After a loss the previous generation is of the life before: it stays until the next compaction.
            if name == JOURNAL:
                reason = "the journal is of another life of this folder"
                folder.problems.append(Problem(name, "foreign_journal", reason))
        elif begins + len(scan.records) > operation or begins > operation:
            reason = (
                f"the journal of generation {scan.header.generation} leads from operation {begins} to "
                f"{begins + len(scan.records)}, and the state ends with operation {operation}"
            )
            folder.problems.append(Problem(name, "out_of_reach", reason))

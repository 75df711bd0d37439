"""A new generation of the store: one rename decides, and whatever is interrupted before or after it loses nothing.

Every step leaves a folder from which `recovery` gets to the same state. The order: the new snapshot is complete and
synced under a name of its own; the present journal and snapshot become the previous ones; the new snapshot takes its
place (this is the commit); an empty journal follows.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from eguard.baseline.changes import HELD, SEEDS, SEEN_ROWS, encode_changes, encode_held, encode_seeds
from eguard.baseline.facts import StoreFacts
from eguard.baseline.files import FileLayer
from eguard.baseline.framing import FileHeader, encode_snapshot
from eguard.baseline.journal import Journal
from eguard.baseline.profile import ProfileTable
from eguard.baseline.recovery import (
    JOURNAL,
    META,
    NEW_SNAPSHOT,
    PREVIOUS_JOURNAL,
    PREVIOUS_SNAPSHOT,
    SNAPSHOT,
    Problem,
)
from eguard.baseline.row_block import encode_rows

INCARNATION_BYTES: Final = 16


class Compaction(NamedTuple):
    """Sizes after a compaction."""

    snapshot_size_bytes: int
    journal_size_bytes: int
    reclaimed_bytes: int


def snapshot_bytes(table: ProfileTable, facts: StoreFacts, header: FileHeader) -> bytes:
    """Return a snapshot of everything, least recently seen profile first."""
    slots = np.array([slot for _, slot in table.index.items()], dtype=np.intp)
    blocks = {
        SEEN_ROWS: encode_rows(table, slots, np.ones(len(slots), dtype=np.bool_)),
        SEEDS: encode_seeds(table.seeds),
        HELD: encode_held(table.held.items()),
    }
    return encode_snapshot(header, encode_changes(facts, blocks))


def install(
    files: FileLayer,
    table: ProfileTable,
    facts: StoreFacts,
    header: FileHeader,
    *,
    retired_bytes: int,
    damaged: Sequence[Problem] = (),
    keeps_previous: bool = False,
) -> tuple[Journal, Compaction]:
    """Make `header` and the state the folder's generation; return its journal, empty and open.

    Parameters
    ----------
    retired_bytes : int
        Length of the journal whose operations the snapshot now contains.
    damaged : sequence of Problem
        Damage found on opening; the files concerned are set aside under a name that says why.
    keeps_previous : bool
        Leave the previous generation alone, because the present one is not whole.
    """
    data = snapshot_bytes(table, facts, header)
    handle = files.create(NEW_SNAPSHOT)
    files.write(handle, data)
    files.sync(handle)
    files.close(handle)
    files.sync_folder()
    names = set(files.names())
    if not keeps_previous:
        for name, previous in ((JOURNAL, PREVIOUS_JOURNAL), (SNAPSHOT, PREVIOUS_SNAPSHOT)):
            if name in names:
                files.rename(name, previous)
    # The damaged snapshot has to make room before the commit; everything else may still be needed until then.
    _set_aside(files, [problem for problem in damaged if problem.file == SNAPSHOT], names)
    files.rename(NEW_SNAPSHOT, SNAPSHOT)
    files.sync_folder()
    _set_aside(files, [problem for problem in damaged if problem.file != SNAPSHOT], names)
    journal = Journal.start(files, header)
    result = Compaction(len(data), journal.size, max(retired_bytes - journal.size, 0))
    _write_hint(files, header, result)
    return journal, result


def _set_aside(files: FileLayer, damaged: Sequence[Problem], names: set[str]) -> None:
    for file, kind in {problem.file: problem.kind for problem in reversed(damaged)}.items():
        if file in names:
            number = 1 + sum(name.startswith(f"{file}.damaged-") for name in names)
            target = f"{file}.damaged-{number}-{kind}"
            files.rename(file, target)
            names.add(target)


def _write_hint(files: FileLayer, header: FileHeader, sizes: Compaction) -> None:
    """Say in JSON, for people, which generation this is. Nothing ever reads it, so that failing here costs nothing."""
    hint = {"generation": header.generation, "operation": header.operation, "incarnation": header.incarnation.hex()}
    with contextlib.suppress(OSError):
        handle = files.create(META)
        try:
            files.write(handle, json.dumps(hint | sizes._asdict(), sort_keys=True).encode() + b"\n")
        finally:
            files.close(handle)

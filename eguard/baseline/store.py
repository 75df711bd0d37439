"""The baseline on disk: after any crash, loading gives the state after some prefix of the operations.

Two classes of durability. Learned counts are batched: they reach the file when 4,096 events wait or a second has
passed, and the disk at least once a second. Seeds, status, acknowledged uploads, policy revisions and verdicts are on
the disk before their call returns.

A handle that failed once acknowledges nothing any more. Retrying would lie: after a failed fsync the kernel may have
dropped the pages and report success the next time. Open the folder again; what is on the disk is the truth, and
opening writes it anew before anything is added.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from eguard.baseline.changes import CHANGED_ROWS, EVICTED, SEEDS, SEEN_ROWS, encode_seeds, encode_slots
from eguard.baseline.compaction import INCARNATION_BYTES, Compaction, install
from eguard.baseline.facts import BaselineStatus, StoreFacts
from eguard.baseline.files import FileLayer
from eguard.baseline.framing import FileHeader
from eguard.baseline.held_journal import HeldJournal
from eguard.baseline.journal import Journal, cut_journal
from eguard.baseline.profile import DEFAULT_CAPACITY
from eguard.baseline.recovery import JOURNAL, SNAPSHOT, Recovered, recover
from eguard.baseline.row_block import encode_rows
from eguard.baseline.slots import ProcessKey
from eguard.baseline.system_files import SystemFiles
from eguard.clock import Clock, SystemClock
from eguard.errors import BaselineStoreError

#: Learned events that may wait in memory, and for how long.
MAX_WAITING_EVENTS: Final = 4096
MAX_WAITING_SECONDS: Final = 1.0
#: A snapshot is due after this long, or when the journal exceeds the larger of 4 MiB and twice the snapshot.
COMPACTION_SECONDS: Final = 6 * 3600.0
MIN_COMPACTION_BYTES: Final = 4 << 20

_log = structlog.get_logger("eguard.baseline")


class BaselineStore:
    """The baseline of one endpoint, kept in one folder.

    The profiles are read and changed through `table`; after each batch `record` says which slots it touched. All other
    changes go through the methods here, which return once they are durable.

    Parameters
    ----------
    files : FileLayer
        The folder, locked for this process. `BaselineStore.open` is the usual way in.
    capacity : int
        Most profiles. A folder that holds more keeps those seen most recently.
    clock : Clock
        Its monotonic time decides when waiting changes are written.

    Attributes
    ----------
    table : ProfileTable
        The profiles.
    recovered : Recovered
        What opening found: the base, the operations replayed, unfinished writes, damage.

    Raises
    ------
    BaselineStoreError
        The folder cannot be read or written, or a later version wrote it. Never because of damage in its files.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> folder = Path(mkdtemp())
    >>> with BaselineStore.open(folder) as store:
    ...     slots = store.learn([("sh", "cron")], np.array([0]), np.array([100.0]), np.array([0]))
    ...     store.set_policy_revision(7)
    >>> with BaselineStore.open(folder) as store:
    ...     store.table.sample_count.sum(), store.facts.policy_revision
    (np.int64(1), 7)
    """

    def __init__(self, files: FileLayer, capacity: int = DEFAULT_CAPACITY, clock: Clock | None = None) -> None:
        self._files = files
        self._clock = clock or SystemClock()
        self._capacity = capacity
        self._failure: str = ""
        self._rows: set[int] = set()
        self._touched: set[int] = set()
        self._evicted: set[int] = set()
        self._waiting_events = 0
        self._is_unsynced = False
        self.recovered: Recovered = recover(files, capacity)
        self.table = self.recovered.table
        self._facts = self.recovered.facts
        self.operation = self.recovered.operation
        with self._guarded("open"):
            self._journal, self._compaction = self._settle()
        self._held = HeldJournal(self.table.held)
        self._is_named = np.zeros(capacity, dtype=np.bool_)
        self._is_named[self.table.index.used()] = True
        now = self._clock.monotonic()
        self._synced_at = self._compacted_at = now

    @classmethod
    def open(cls, folder: Path, capacity: int = DEFAULT_CAPACITY, clock: Clock | None = None) -> Self:
        """Open or create the store in `folder`; its parent has to exist."""
        files = SystemFiles(folder, exclusive=True)
        try:
            return cls(files, capacity, clock)
        except BaselineStoreError:
            files.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def facts(self) -> StoreFacts:
        """What is known about the baseline as a whole."""
        return replace(self._facts, sequence=self.table.sequence)

    @property
    def generation(self) -> int:
        """Number of the current snapshot."""
        return self._journal.header.generation

    @property
    def incarnation(self) -> str:
        """The random name of this life of the folder; a new one after every loss."""
        return self._journal.header.incarnation.hex()

    @property
    def journal_bytes(self) -> int:
        """Length of the journal."""
        return self._journal.size

    @property
    def is_poisoned(self) -> bool:
        """Whether a write failed, so that this handle acknowledges nothing any more."""
        return bool(self._failure)

    # Learned counts: batched.

    def learn(
        self,
        keys: Sequence[ProcessKey],
        classes: NDArray[np.integer],
        times: NDArray[np.float64],
        payload_bytes: NDArray[np.integer],
    ) -> NDArray[np.intp]:
        """Mark the keys of a batch as seen, learn its events, and return their slots."""
        slots = self.table.slots_for(keys, times)
        self.table.observe(slots, classes, times, payload_bytes)
        self.record(slots)
        return slots

    def record(self, slots: NDArray[np.intp]) -> None:
        """Note the batch that `table.slots_for` returned `slots` for, once it is learned as far as it will be.

        Has to be called once after every call of `table.slots_for`. Also notes what `table.held` took in.
        """
        self._refuse_if_poisoned()
        for _, slot in self.table.evicted:
            if self._is_named[slot]:
                self._evicted.add(slot)
                self._is_named[slot] = False
            self._touched.discard(slot)
            self._rows.discard(slot)
        self.table.evicted = []
        tracked = np.unique(slots[slots >= 0])
        if len(tracked):
            self._touched.update(tracked.tolist())
            seen = float(self.table.last_seen[tracked].max())
            self._facts = replace(self._facts, last_observed=float(np.fmax(self._facts.last_observed, seen)))
        self._waiting_events += len(slots)
        if self._waiting_events >= MAX_WAITING_EVENTS:
            self.flush()
        self.tick()

    def touch(self, slots: Sequence[int]) -> None:
        """Note profiles that were changed without being seen, such as by `table.relearn`; batched like counts."""
        self._rows.update(slots)

    def tick(self) -> None:
        """Write, sync and compact what is due. Call it at least every quarter of a second."""
        now = self._clock.monotonic()
        if now - self._synced_at >= MAX_WAITING_SECONDS:
            self.sync()
        limit = max(MIN_COMPACTION_BYTES, 2 * self._compaction.snapshot_size_bytes)
        if self._journal.size > limit or now - self._compacted_at >= COMPACTION_SECONDS:
            self.compact()

    def flush(self) -> None:
        """Hand what waits to the kernel: it then survives the end of this process, but not that of the machine."""
        self._refuse_if_poisoned()
        if self._has_waiting():
            self._append({})

    def sync(self) -> None:
        """Write what waits and return once it is on the disk. Call it before uploading what was learned."""
        self.flush()
        if self._is_unsynced:
            with self._guarded("sync the journal"):
                self._journal.sync()
            self._is_unsynced = False
        self._synced_at = self._clock.monotonic()

    # Everything else: durable before the call returns.

    def set_status(
        self,
        status: BaselineStatus,
        *,
        learning_started: float | None = None,
        learning_completed: float | None = None,
        policy_revision: int | None = None,
    ) -> None:
        """Move to `status`; what is given beside it replaces the earlier values in the same operation."""
        given = {
            "learning_started": learning_started,
            "learning_completed": learning_completed,
            "policy_revision": policy_revision,
        }
        self._change(status=status, **{name: value for name, value in given.items() if value is not None})

    def start_anew(self, now: float, *, policy_revision: int | None = None) -> None:
        """Forget the learned counts of all profiles and begin to learn at `now`, in one operation; seeds stay."""
        self.flush()
        for slot in self.table.index.used().tolist():
            self.table.relearn(slot, now)
            self._rows.add(slot)
        self._facts = replace(
            self._facts,
            status=BaselineStatus.LEARNING,
            learning_started=now,
            learning_completed=math.nan,
            policy_revision=self._facts.policy_revision if policy_revision is None else policy_revision,
        )
        self._append({}, is_durable=True)

    def shift_times(self, seconds: float) -> None:
        """Move the times of the facts: the machine's clock was set, and what they measure did not change."""
        facts = self._facts
        self._change(
            learning_started=facts.learning_started + seconds,
            learning_completed=facts.learning_completed + seconds,
            last_observed=facts.last_observed + seconds,
        )

    def set_policy_revision(self, revision: int) -> None:
        """Remember the revision of the policy that was applied."""
        self._change(policy_revision=revision)

    def seed(self, priors: dict[ProcessKey, NDArray[np.float64]], generation: int) -> int:
        """Apply the seeds of a fleet generation as `ProfileTable.seed` does; return how many profiles hold one."""
        self.flush()
        before = self.table.seq.copy()
        seeded = self.table.seed(priors, generation)
        self._rows.update(np.flatnonzero(self.table.seq != before).tolist())
        self._append({SEEDS: encode_seeds(self.table.seeds)}, is_durable=True)
        return seeded

    def withdraw_seeds(self) -> None:
        """Take all seeds back."""
        self.seed({}, 0)

    def acknowledge(self, keys: Sequence[ProcessKey], seqs: Sequence[int]) -> None:
        """Remember that the server has taken these profiles as they were at these sequence numbers."""
        self.flush()
        self.table.acknowledge(keys, seqs)
        slots = self.table.index.lookup(keys)
        self._rows.update(slots[slots >= 0].tolist())
        self._facts = replace(self._facts, uploaded_sequence=max([self._facts.uploaded_sequence, *seqs]))
        self._append({}, is_durable=True)

    def adjudicate(self, window_id: str, *, is_benign: bool) -> bool:
        """Learn or drop a held window as `ProfileTable.adjudicate` does; return whether events were learned."""
        self.flush()
        window = self.table.held.find(window_id)
        was_learned = self.table.adjudicate(window_id, is_benign=is_benign)
        if was_learned and window is not None:
            self._rows.update(self.table.index.lookup([window.key]).tolist())
        self._append({}, is_durable=True)
        return was_learned

    def compact(self) -> Compaction:
        """Write a new snapshot and start an empty journal; the present ones become the previous generation."""
        self.sync()
        old = self._journal
        with self._guarded("compact"):
            old.close()
            self._journal, self._compaction = install(
                self._files,
                self.table,
                self.facts,
                FileHeader(old.header.generation + 1, self.operation, old.header.incarnation, self._capacity),
                retired_bytes=old.size,
            )
        self._compacted_at = self._clock.monotonic()
        _log.info("persisted baseline store snapshot", **self._compaction._asdict())
        return self._compaction

    def close(self) -> None:
        """Sync, and give the folder back. A poisoned handle only gives it back."""
        try:
            if not self.is_poisoned:
                self.sync()
                with self._guarded("close the journal"):
                    self._journal.close()
        finally:
            self._files.release()

    def _change(self, **changes: Any) -> None:
        self.flush()
        self._facts = replace(self._facts, **changes)
        self._append({}, is_durable=True)

    def _has_waiting(self) -> bool:
        return bool(self._touched or self._rows or self._evicted or self._held.is_changed())

    def _append(self, blocks: dict[int, bytes], *, is_durable: bool = False) -> None:
        """Write one operation: `blocks` and all that waits."""
        self._refuse_if_poisoned()
        seen = np.array(self.table.index.by_recency(self._touched), dtype=np.intp)
        changed = np.array(sorted(self._rows - self._touched), dtype=np.intp)
        written = dict(blocks)
        written[EVICTED] = encode_slots(sorted(self._evicted))
        for tag, slots in ((SEEN_ROWS, seen), (CHANGED_ROWS, changed)):
            written[tag] = encode_rows(self.table, slots, ~self._is_named[slots]) if len(slots) else b""
        written |= self._held.take_changes()
        with self._guarded("write the journal"):
            self._journal.append(self.operation + 1, self.facts, written)
            if is_durable:
                self._journal.sync()
        self.operation += 1
        self._is_unsynced = not is_durable
        self._is_named[seen] = True
        self._touched.clear()
        self._rows.clear()
        self._evicted.clear()
        self._waiting_events = 0

    def _settle(self) -> tuple[Journal, Compaction]:
        """Make the folder one that can be written to: go on in an empty journal, or write a new generation."""
        found = self.recovered
        for problem in found.problems:
            _log.error("baseline store is damaged", file=problem.file, kind=problem.kind, reason=problem.reason)
        if found.is_settled:
            header = FileHeader(found.generation, found.operation, found.incarnation, self._capacity)
            self._files.sync_folder()
            journal = Journal(self._files, self._files.open_existing(JOURNAL), header, found.sizes[JOURNAL])
            return journal, Compaction(found.sizes[SNAPSHOT], found.sizes[JOURNAL], 0)
        if JOURNAL in found.torn:
            cut_journal(self._files, found.sizes[JOURNAL] - found.torn[JOURNAL])
        is_new_life = found.is_lossy or not found.incarnation
        incarnation = os.urandom(INCARNATION_BYTES) if is_new_life else found.incarnation
        return install(
            self._files,
            self.table,
            self.facts,
            FileHeader(found.generation + 1, self.operation, incarnation, self._capacity),
            retired_bytes=found.sizes.get(JOURNAL, 0),
            damaged=found.problems,
            keeps_previous=bool(found.problems) or found.base != SNAPSHOT,
        )

    def _refuse_if_poisoned(self) -> None:
        if self._failure:
            raise BaselineStoreError(
                f"the store stopped when it could not {self._failure}; nothing was acknowledged since",
                remedy="Check the disk (dmesg, df), then open the store again: it goes on from what is on the disk.",
                failure=self._failure,
            )

    @contextmanager
    def _guarded(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failure = f"{action}: {error.strerror or error}"
            raise BaselineStoreError(
                f"cannot {self._failure}",
                remedy="Check the disk (dmesg, df), then open the store again: it goes on from what is on the disk.",
                failure=self._failure,
            ) from error

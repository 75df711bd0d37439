"""The agent's baseline: its store, its archive and its status, and what happens when the disk fails.

A store that failed once acknowledges nothing any more (`eguard.baseline.store`). Detection goes on with the profiles in
memory. Every half minute the folder is opened again; from then on the baseline is what the disk holds. What was learned
in between is gone and counted: it was never acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import structlog

from eguard.agent.verdicts import VerdictBox
from eguard.baseline.archive import BaselineArchive
from eguard.baseline.facts import BaselineStatus
from eguard.baseline.lifecycle import BaselineMode, Lifecycle
from eguard.baseline.profile import ProfileTable
from eguard.baseline.store import BaselineStore
from eguard.clock import Clock, SystemClock
from eguard.detection.engine import EngineOutput
from eguard.errors import BaselineStoreError
from eguard.settings import AgentSettings
from eguard.wire.process_key import encode_process_key

RETRY_SECONDS: Final = 30.0
ARCHIVE_NAME: Final = "baseline-archive.jsonl"

_log = structlog.get_logger("eguard.agent")
_Result = TypeVar("_Result")


class BaselineKeeper:
    """What one agent has learned, kept on the disk as well as the disk allows.

    Parameters
    ----------
    settings : AgentSettings
        Folder, sizes and windows.
    clock : Clock
        Time of the events, for the status. When to write is decided by the machine's own monotonic clock.

    Attributes
    ----------
    failures_total : int
        Times that the store failed since the start.
    unkept_events_total : int
        Events that were learned in memory while the store did not work.

    Raises
    ------
    BaselineStoreError
        The store cannot be opened at the start.
    """

    def __init__(self, settings: AgentSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._machine = SystemClock()
        self._archive = BaselineArchive(settings.state_path / ARCHIVE_NAME)
        self._broken_at: float | None = None
        self._unkept_since_failure = 0
        self.failures_total = 0
        self.unkept_events_total = 0
        self._store = self._open()

    def _open(self) -> BaselineStore:
        settings = self._settings
        store = BaselineStore.open(settings.baseline_folder, settings.max_profiles)
        store.table.held.hold_seconds = settings.held_seconds
        self._is_open = True
        self.lifecycle = Lifecycle(store, self._archive, settings.learning_seconds, settings.stale_seconds)
        return store

    @property
    def store(self) -> BaselineStore:
        """The store; poisoned while `is_working` is false."""
        return self._store

    @property
    def table(self) -> ProfileTable:
        """The profiles."""
        return self._store.table

    @property
    def is_working(self) -> bool:
        """Whether what is learned reaches the disk."""
        return self._broken_at is None

    @property
    def is_learning(self) -> bool:
        """Whether alerts ask for no response yet: the baseline is not in use, or too old."""
        return self._store.facts.status is not BaselineStatus.ACTIVE

    def learned(self, output: EngineOutput) -> None:
        """Write down what a batch taught. Counts that were given up are archived before anything else is written."""
        archived = [
            (self.table.index.key_of(window.slot), window.archived)
            for window in output.closed_windows
            if window.archived
        ]
        now = self._clock.now()

        def write() -> None:
            for key, counts in archived:
                self._archive.keep({key: counts}, reason="drift", now=now)
                _log.warning(
                    "process key is learned anew after drift",
                    process_key=encode_process_key(*key),
                    events_archived=sum(counts),
                )
            self._store.record(output.slots)
            self.lifecycle.observed(now)

        if not self._tried(write):
            self.table.evicted = []
            self._unkept_since_failure += len(output.slots)

    def settled(self, slots: Sequence[int]) -> None:
        """Write down profiles that learned from windows which are still open."""
        self._tried(lambda: self._store.touch(slots))

    def tick(self) -> None:
        """Write, sync and compact what is due."""
        self._tried(self._store.tick)

    def check_status(self) -> None:
        """Move on what time moves."""
        self._tried(lambda: self.lifecycle.tick(self._clock.now()))

    def apply_verdicts(self, box: VerdictBox) -> None:
        """Learn or drop the windows that verdicts are about."""
        self._tried(lambda: box.apply(self._store))

    def apply_mode(self, mode: BaselineMode, revision: int) -> bool:
        """Do what a policy asks of the baseline, once; return whether its revision was new.

        Raises
        ------
        ConfigError
            The mode is not for a baseline like this one. The revision counts as applied.
        BaselineStoreError
            The store does not work.
        """
        return self.change(lambda _: self.lifecycle.apply_mode(mode, revision, self._clock.now()))

    def change(self, work: Callable[[BaselineStore], _Result]) -> _Result:
        """Do something to the store for somebody who has to know whether it was done.

        Raises
        ------
        BaselineStoreError
            It was not: the store does not work.
        """
        if self._broken_at is not None:
            raise BaselineStoreError(
                "the baseline store does not work now",
                remedy="It is opened again by itself; see the log for the cause.",
            )
        try:
            return work(self._store)
        except BaselineStoreError as error:
            self._fail(error)
            raise

    def shift_times(self, seconds: float) -> None:
        """Move the times on record after the clock was set."""
        self._tried(lambda: self.lifecycle.shift(seconds))

    def reopened(self) -> bool:
        """Try to open a failed store again; return whether that worked and `table` is another one now."""
        if self._broken_at is None or self._machine.monotonic() - self._broken_at < RETRY_SECONDS:
            return False
        self._broken_at = self._machine.monotonic()
        self._give_back()
        try:
            self._store = self._open()
        except BaselineStoreError as error:
            _log.error("baseline store still fails", reason=error.message, remedy=error.remedy)
            return False
        self._broken_at = None
        self.unkept_events_total += self._unkept_since_failure
        _log.info("baseline store works again", profiles=len(self.table), events_not_kept=self._unkept_since_failure)
        self._unkept_since_failure = 0
        return True

    def close(self) -> None:
        """Sync and give the store back."""
        self._give_back()

    def _give_back(self) -> None:
        """Close the store once; one that failed only gives its folder back."""
        if self._is_open:
            self._is_open = False
            try:
                self._store.close()
            except BaselineStoreError as error:
                self._fail(error)

    def _tried(self, write: Callable[[], object]) -> bool:
        """Do it, unless the store does not work; return whether it was done."""
        if self._broken_at is not None:
            return False
        try:
            write()
        except BaselineStoreError as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: BaselineStoreError) -> None:
        self.failures_total += 1
        self._broken_at = self._machine.monotonic()
        _log.error("baseline store failed", reason=error.message, remedy=error.remedy, retry_seconds=RETRY_SECONDS)

"""How far a baseline is: learning, active, stale, and what moves it from one to the other.

::

    learning --(its window has passed)--> active --(nothing seen for long)--> stale
        ^                                                                       |
        +------------------------------(events again)--------------------------+

Only the timer finds a baseline stale, since a machine without events has nothing else that could. A stale baseline
keeps its counts and takes fleet seeds; the first event begins a new learning window. A policy may move the status too:
`apply_mode`, once for each of its revisions.

Durations are measured against the clock that is given. When somebody sets the machine's clock, `shift` moves the times
on record with it, so that neither ten years forward ends a learning window nor ten years back makes one last as long.
"""

from __future__ import annotations

import enum
import math
from typing import Final

import structlog

from eguard.baseline.archive import BaselineArchive
from eguard.baseline.facts import BaselineStatus
from eguard.baseline.store import BaselineStore
from eguard.errors import ConfigError

#: A week of learning; a month without an event is stale.
LEARNING_SECONDS: Final = 7 * 86_400.0
STALE_SECONDS: Final = 30 * 86_400.0

_log = structlog.get_logger("eguard.baseline")


class BaselineMode(enum.StrEnum):
    """What a policy may ask of a baseline.

    ``learning`` archives the counts and begins a new window. ``force_active`` ends learning with what is there.
    ``skip_learning`` makes an empty baseline active at once, on its seeds alone.
    """

    LEARNING = "learning"
    FORCE_ACTIVE = "force_active"
    SKIP_LEARNING = "skip_learning"


class Lifecycle:
    """The status of one store's baseline.

    Parameters
    ----------
    store : BaselineStore
        The store; every change of status is durable in it before a call returns.
    archive : BaselineArchive
        Where counts go that a policy has forgotten.
    learning_seconds : float
        Length of the learning window.
    stale_seconds : float
        Time without an event after which a baseline is stale.
    """

    def __init__(
        self,
        store: BaselineStore,
        archive: BaselineArchive,
        learning_seconds: float = LEARNING_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._store = store
        self._archive = archive
        self._learning_seconds = learning_seconds
        self._stale_seconds = stale_seconds

    @property
    def status(self) -> BaselineStatus:
        """Where the baseline stands."""
        return self._store.facts.status

    def observed(self, now: float) -> None:
        """Note that events came: the first ones begin the learning window, and a stale baseline recovers."""
        facts = self._store.facts
        if facts.status is BaselineStatus.STALE:
            self._store.set_status(BaselineStatus.LEARNING, learning_started=now, learning_completed=math.nan)
            _log.info("stale baseline is learning again", silent_seconds=_since(facts.last_observed, now))
        elif facts.status is BaselineStatus.LEARNING and math.isnan(facts.learning_started):
            self._store.set_status(BaselineStatus.LEARNING, learning_started=now)

    def tick(self, now: float) -> BaselineStatus:
        """Move on what time moves, and return the status. Call it before `observed` when a store was opened."""
        facts = self._store.facts
        silent = _since(facts.last_observed, now)
        learned = _since(facts.learning_started, now)
        if facts.status is not BaselineStatus.STALE and silent >= self._stale_seconds:
            self._store.set_status(BaselineStatus.STALE)
            _log.warning("baseline became stale", silent_seconds=silent, profiles=len(self._store.table))
        elif facts.status is BaselineStatus.LEARNING and learned >= self._learning_seconds:
            self._complete(now)
        return self.status

    def shift(self, seconds: float) -> None:
        """Move the times on record: the clock was set by `seconds`."""
        self._store.shift_times(seconds)

    def apply_mode(self, mode: BaselineMode, revision: int, now: float) -> bool:
        """Do what a policy asks, once: a revision that was applied before changes nothing.

        Returns
        -------
        bool
            Whether this revision was new.

        Raises
        ------
        ConfigError
            ``skip_learning`` of a baseline that has learned something. The revision counts as applied all the same.
        BaselineStoreError
            Nothing was changed, or this handle of the store is of no more use.
        """
        if revision <= self._store.facts.policy_revision:
            return False
        try:
            self.move(mode, now, policy_revision=revision)
        except ConfigError:
            self._store.set_policy_revision(revision)
            raise
        return True

    def move(self, mode: BaselineMode, now: float, *, policy_revision: int | None = None) -> None:
        """Do what `mode` asks, and note the revision that asked for it in the same operation.

        Raises
        ------
        ConfigError
            ``skip_learning`` of a baseline that has learned something.
        BaselineStoreError
            As in `apply_mode`.
        """
        status = self.status
        if mode is BaselineMode.LEARNING:
            self._archive_all(now, "policy" if policy_revision is None else f"policy revision {policy_revision}")
            self._store.start_anew(now, policy_revision=policy_revision)
        elif mode is BaselineMode.SKIP_LEARNING and self._store.table.sample_count.any():
            raise ConfigError(
                "skip_learning is for an empty baseline, and this one has learned",
                remedy="Use force_active to end learning with what is there.",
            )
        elif status is not BaselineStatus.ACTIVE:
            self._complete(now, policy_revision=policy_revision)
        elif policy_revision is not None:
            self._store.set_policy_revision(policy_revision)
        _log.info(
            "applied baseline mode", mode=str(mode), revision=policy_revision, baseline_status=self.status.name.lower()
        )

    def _archive_all(self, now: float, reason: str) -> None:
        table = self._store.table
        slots = [slot for slot in table.index.used().tolist() if table.sample_count[slot]]
        self._archive.keep(
            {table.index.key_of(slot): table.counts[slot].tolist() for slot in slots}, reason=reason, now=now
        )

    def _complete(self, now: float, policy_revision: int | None = None) -> None:
        self._store.set_status(BaselineStatus.ACTIVE, learning_completed=now, policy_revision=policy_revision)
        learned = int(self._store.table.sample_count.sum())
        _log.info("baseline learning completed", profiles=len(self._store.table), events_learned=learned)


def _since(then: float, now: float) -> float:
    """Return the seconds since `then`, 0 if it never was or lies ahead.

    Examples
    --------
    >>> _since(10.0, 15.0), _since(math.nan, 15.0), _since(20.0, 15.0)
    (5.0, 0.0, 0.0)
    """
    return max(now - then, 0.0) if not math.isnan(then) else 0.0

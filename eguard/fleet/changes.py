"""Which keys have votes that changed: noted by uploads, cleared by the aggregation that counted them.

A mark must never be lost. It says under which epoch it was made, and an aggregation begins by ending the epoch, before
it looks at any vote. What it sees was marked under that epoch or an earlier one, and these marks it clears; an upload
that it does not see marks under the next epoch, and those stay. An upload reads the epoch in its own transaction, after
its rows are written, and keeps it locked until they are committed: the epoch cannot end between the two. On SQLite
there is one writer at a time anyway.

Nearly all uploads find their keys marked already. Each process remembers what it marked in this epoch and was
committed, so that such an upload costs one short query and writes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

import sqlalchemy as sa

from eguard.fleet.tables import fleet_changed_key, server_counter
from eguard.fleet.upsert import upsert

#: Row of `server_counter` with the present epoch.
EPOCH: Final = "vote_epoch"
#: Keys that a process remembers at most; beyond that it begins anew, and marks some keys twice.
REMEMBERED_KEYS: Final = 1_000_000

_PRESENT_EPOCH: Final = (
    sa.select(server_counter.c.value).where(server_counter.c.name == EPOCH).with_for_update(read=True)
)
_MARK: Final = upsert(fleet_changed_key, ["process_key", "epoch"], update=[])


class Noted(NamedTuple):
    """Keys that a transaction marked, and the epoch."""

    epoch: int
    keys: Collection[str]


class ChangedKeys:
    """The marks that this process made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epoch = -1
        self._remembered: set[str] = set()

    def note(self, connection: sa.Connection, process_keys: Iterable[str]) -> Noted:
        """Mark keys, in the transaction that changes their votes and after its last change.

        Returns
        -------
        Noted
            To be handed to `committed` once the transaction is. If it is undone, so are the marks.
        """
        changed = set(process_keys)
        if not changed:
            return Noted(-1, ())
        epoch = int(connection.execute(_PRESENT_EPOCH).scalar() or 0)
        with self._lock:
            missing = changed - self._remembered if epoch == self._epoch else changed
        if missing:
            # In order, or two uploads would wait for each other.
            connection.execute(_MARK, [{"process_key": key, "epoch": epoch} for key in sorted(missing)])
        return Noted(epoch, missing)

    def committed(self, noted: Noted) -> None:
        """Remember marks whose transaction was committed."""
        if not noted.keys:
            return
        with self._lock:
            if noted.epoch > self._epoch or len(self._remembered) > REMEMBERED_KEYS:
                self._epoch = noted.epoch
                self._remembered = set()
            if noted.epoch == self._epoch:
                self._remembered.update(noted.keys)


def end_epoch(connection: sa.Connection) -> int:
    """End the present epoch and return it, in a transaction of its own.

    Whoever reads afterwards sees every vote that was marked under it.
    """
    connection.execute(upsert(server_counter, ["name"], update=[]).values(name=EPOCH, value=0))
    row = server_counter.c.name == EPOCH
    ended = int(connection.execute(sa.select(server_counter.c.value).where(row).with_for_update()).scalar_one())
    connection.execute(sa.update(server_counter).where(row).values(value=ended + 1))
    return ended


def marked_keys(connection: sa.Connection) -> set[str]:
    """Return all keys that are marked."""
    return set(connection.execute(sa.select(fleet_changed_key.c.process_key).distinct()).scalars())


def clear_marks(connection: sa.Connection, ended_epoch: int) -> None:
    """Remove the marks of an epoch that has ended, and of earlier ones: their votes were counted."""
    connection.execute(sa.delete(fleet_changed_key).where(fleet_changed_key.c.epoch <= ended_epoch))

"""The counter that every change of what agents are told takes its number from."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.tables import server_counter
from eguard.fleet.upsert import upsert

POLICY_REVISION: Final = "policy_revision"
WHITELIST_REVISION: Final = "whitelist_revision"
#: Lowest revision that any agent is sent: raised where everybody has to be told anew, as after a restored database.
REVISION_FLOOR: Final = "revision_floor"


def lock_revisions(connection: sa.Connection) -> int:
    """Return the last revision that was given out, and keep the counter for this transaction alone.

    Call it before anything is read that the change depends on: on a server that reads snapshots, the snapshot is then
    taken after the change before this one was committed.
    """
    counter = server_counter.c
    connection.execute(upsert(server_counter, ["name"], update=[]).values(name=POLICY_REVISION, value=0))
    query = sa.select(counter.value).where(counter.name == POLICY_REVISION).with_for_update()
    return int(connection.execute(query).scalar_one())


def next_revision(connection: sa.Connection, *, above: int = 0) -> int:
    """Take the next revision in the caller's write transaction and return it.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of a write transaction. The counter's row stays locked until it ends.
    above : int
        The revision will also be above this one.
    """
    revision = max(lock_revisions(connection), above) + 1
    counter = server_counter.c
    connection.execute(sa.update(server_counter).where(counter.name == POLICY_REVISION).values(value=revision))
    return revision


def raise_floor(connection: sa.Connection, revision: int) -> None:
    """Have every agent told anew: no agent is sent a revision below this one any more."""
    connection.execute(upsert(server_counter, ["name"]).values(name=REVISION_FLOOR, value=revision))


def read_counters(connection: sa.Connection) -> dict[str, int]:
    """Return the counters of revisions by name; one that was never raised is 0."""
    names = (POLICY_REVISION, WHITELIST_REVISION, REVISION_FLOOR)
    rows = connection.execute(sa.select(server_counter).where(server_counter.c.name.in_(names)))
    return dict.fromkeys(names, 0) | {row.name: int(row.value) for row in rows}

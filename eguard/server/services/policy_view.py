"""The policies in memory, never older than half a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import sqlalchemy as sa

from eguard.clock import Clock
from eguard.fleet.database import Database
from eguard.fleet.tables import server_counter
from eguard.server.services.policy_state import Chosen, Place, PolicyState, load_places, load_state
from eguard.server.services.revisions import POLICY_REVISION

#: How old the view may be. What another server or the command line committed is in force here after so long at most.
MAX_AGE_SECONDS: Final = 0.5
#: Where an agent is that never enrolled.
_NOWHERE: Final = Place("default", 0)


class PolicyView:
    """What `PolicyState` holds, read again when the revision counter has moved.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Its monotonic side says how old the view is.

    Notes
    -----
    Every change takes a revision, so that one number read from the database tells whether anything changed. A database
    that cannot be read raises: an old view is no permission.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._state = PolicyState(counter=-1)
        self._read_at = -float("inf")
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` called, in any thread, whenever this process changed something."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Read anew before anything else is answered: this process has just committed a change."""
        with self._lock:
            self._read_at = -float("inf")
        for listener in self._listeners:
            listener()

    def state(self, max_age_seconds: float = MAX_AGE_SECONDS) -> PolicyState:
        """Return a state at most half a second old, or younger if asked for.

        Raises
        ------
        FleetStoreError
            The database cannot be read.
        """
        if self._is_young(max_age_seconds):
            return self._state
        with self._lock:
            if not self._is_young(max_age_seconds):
                asked_at = self._clock.monotonic()
                with self._database.read() as connection:
                    if _counter(connection) != self._state.counter:
                        self._state = load_state(connection)
                self._read_at = asked_at
            return self._state

    def chosen(self, agent_id: str) -> Chosen:
        """Return the agent's policy, with the revision that it is sent.

        Raises
        ------
        FleetStoreError
            The database cannot be read.
        """
        state = self.state()
        return state.chosen(agent_id, self.place(state, agent_id))

    def place(self, state: PolicyState, agent_id: str) -> Place:
        """Return where an agent is; one that enrolled since the state was read is looked up and remembered."""
        return self.places(state, [agent_id])[0]

    def places(self, state: PolicyState, agent_ids: Sequence[str]) -> list[Place]:
        """Return where several agents are, with one query for those that are not in memory yet."""
        unknown = sorted({agent_id for agent_id in agent_ids if agent_id not in state.places})
        if unknown:
            with self._database.read() as connection:
                state.places.update(load_places(connection, unknown))
        return [state.places.get(agent_id, _NOWHERE) for agent_id in agent_ids]

    def known_revision(self, agent_id: str) -> int | None:
        """Return the agent's revision as far as memory has it, without asking the database."""
        state = self._state
        place = state.places.get(agent_id)
        return None if place is None else state.chosen(agent_id, place).revision

    def known(self, agent_id: str) -> Chosen | None:
        """Return what `chosen` would if that needs no database now, none otherwise; it never waits."""
        state = self._state
        place = state.places.get(agent_id)
        return state.chosen(agent_id, place) if place is not None and self._is_young() else None

    def _is_young(self, max_age_seconds: float = MAX_AGE_SECONDS) -> bool:
        return self._clock.monotonic() - self._read_at < max_age_seconds


def _counter(connection: sa.Connection) -> int:
    query = sa.select(server_counter.c.value).where(server_counter.c.name == POLICY_REVISION)
    return int(connection.execute(query).scalar() or 0)

"""Where agents wait for a policy: one watcher for all, no thread for any.

What this process changes is noticed at once. What another server or the command line commits is noticed by one cheap
query every half second, however many agents wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from eguard.errors import FleetStoreError
from eguard.server.services.policy_view import MAX_AGE_SECONDS, PolicyView

#: Policies signed at once: ten thousand agents that wake together leave threads to heartbeats, uploads and people.
SIGNING_AT_ONCE: Final = 4
#: Longest that an answer is withheld.
MAX_WAIT_SECONDS: Final = 60.0

_log = structlog.get_logger("eguard.server")


class PolicyBoard:
    """Agents that wait until their revision rises.

    Parameters
    ----------
    view : PolicyView
        What is in force.

    Attributes
    ----------
    turn : Semaphore
        Whoever was woken takes it to have its policy signed.

    Notes
    -----
    Everything but `notify` belongs to one event loop: the one that `run` runs in.
    """

    def __init__(self, view: PolicyView) -> None:
        self._view = view
        self._loop: asyncio.AbstractEventLoop | None = None
        self._poke = asyncio.Event()
        self._moved = asyncio.Event()
        self._is_closed = False
        self._waiting = 0
        self.turn = asyncio.Semaphore(SIGNING_AT_ONCE)
        view.on_change(self.notify)

    @property
    def waiting(self) -> int:
        """How many agents wait now."""
        return self._waiting

    async def run(self) -> None:
        """Watch until `close` is called or the task is cancelled."""
        self._loop = asyncio.get_running_loop()
        seen = -1
        while not self._is_closed:
            self._poke.clear()
            if self._waiting:
                try:
                    counter = (await asyncio.to_thread(self._view.state)).counter
                except FleetStoreError as error:
                    _log.warning("policies cannot be watched", cause=str(error))
                else:
                    if counter != seen:
                        seen = counter
                        self._wake()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poke.wait(), MAX_AGE_SECONDS)

    def notify(self) -> None:
        """Look at once. May be called in any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the loop ended between the two lines
                loop.call_soon_threadsafe(self._poke.set)

    def close(self) -> None:
        """Answer everybody who waits, and nobody waits any more."""
        self._is_closed = True
        self._poke.set()
        self._wake()

    async def wait(self, agent_id: str, revision: int, seconds: float, look: Callable[[], Awaitable[int]]) -> bool:
        """Return true as soon as the agent's revision is above `revision`, false if it is not after `seconds`.

        Parameters
        ----------
        agent_id : str
            Who waits.
        revision : int
            What it has.
        seconds : float
            How long, at most `MAX_WAIT_SECONDS`.
        look : callable
            Returns the agent's revision from the database; called at the beginning, and for agents that are not in
            memory yet.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(seconds, MAX_WAIT_SECONDS)
        self._waiting += 1
        try:
            current: int | None = None
            while True:
                moved = self._moved
                known = current if current is None else self._view.known_revision(agent_id)
                current = await look() if known is None else known
                if current > revision:
                    return True
                remaining = deadline - loop.time()
                if remaining <= 0 or self._is_closed:
                    return False
                try:
                    async with asyncio.timeout(remaining):
                        await moved.wait()
                except TimeoutError:
                    return False
        finally:
            self._waiting -= 1

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

"""Where agents wait for a policy: one watcher for all, no thread for any.

What this process changes is noticed at once. What another server or the command line commits is noticed by one cheap
query every half second, however many agents wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

import structlog

from eguard.errors import FleetStoreError
from eguard.server.services.policy_view import MAX_AGE_SECONDS, PolicyView

#: Agents woken before the event loop looks at everything else again.
WOKEN_AT_ONCE: Final = 100
#: Longest that an answer is withheld.
MAX_WAIT_SECONDS: Final = 60.0

_log = structlog.get_logger("eguard.server")


WhenLost = Callable[[Callable[[], None] | None], None]


class _Waiter(NamedTuple):
    agent_id: str
    revision: int


class PolicyBoard:
    """Agents that wait until their revision rises.

    Parameters
    ----------
    view : PolicyView
        What is in force.

    Notes
    -----
    Everything but `notify` belongs to one event loop: the one that `run` runs in.
    """

    def __init__(self, view: PolicyView) -> None:
        self._view = view
        self._loop: asyncio.AbstractEventLoop | None = None
        self._poke = asyncio.Event()
        self._is_closed = False
        self._waiting = 0
        self._wakes = 0
        self._waiters: dict[asyncio.Future[bool], _Waiter] = {}
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

    async def wait(
        self,
        agent_id: str,
        revision: int,
        seconds: float,
        look: Callable[[], Awaitable[int]],
        when_lost: WhenLost | None = None,
    ) -> bool:
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
        when_lost : callable, optional
            Takes what is to be called when the agent went away: it waits no longer then.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(seconds, MAX_WAIT_SECONDS)
        self._waiting += 1
        try:
            chosen = self._view.known(agent_id)
            known = None if chosen is None else chosen.revision
            while True:
                wakes = self._wakes
                current = await look() if known is None else known
                if current > revision:
                    return True
                if loop.time() >= deadline or self._is_closed:
                    return False
                if wakes == self._wakes and not await self._news(_Waiter(agent_id, revision), deadline, when_lost):
                    return False
                known = self._view.known_revision(agent_id)
        finally:
            self._waiting -= 1

    async def _news(self, waiter: _Waiter, deadline: float, when_lost: WhenLost | None) -> bool:
        """Wait until there may be something newer; false if the time is over."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiters[future] = waiter
        timer = loop.call_at(deadline, _settle, future, False)  # noqa: FBT003 - a callback's argument
        if when_lost is not None:
            when_lost(partial(_settle, future, False))  # noqa: FBT003 - a callback's argument
        try:
            return await future
        finally:
            if when_lost is not None:
                when_lost(None)
            timer.cancel()
            self._waiters.pop(future, None)

    def _wake(self) -> None:
        self._wakes += 1
        self._wake_some(deque(self._waiters.items()), self._wakes)

    def _wake_some(self, waiters: deque[tuple[asyncio.Future[bool], _Waiter]], wakes: int) -> None:
        """Wake those for whom there is news, and the others not at all."""
        if wakes != self._wakes:
            return  # a later change goes through all of them anew
        for _ in range(min(WOKEN_AT_ONCE, len(waiters))):
            future, waiter = waiters.popleft()
            known = self._view.known_revision(waiter.agent_id)
            if self._is_closed or known is None or known > waiter.revision:
                _settle(future, True)  # noqa: FBT003 - a future's value
        if waiters:
            asyncio.get_running_loop().call_soon(self._wake_some, waiters, wakes)


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)

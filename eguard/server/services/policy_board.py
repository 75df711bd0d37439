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
from typing import Final

import structlog

from eguard.errors import FleetStoreError
from eguard.server.services.policy_view import MAX_AGE_SECONDS, PolicyView

#: Agents woken before the event loop looks at everything else again.
WOKEN_AT_ONCE: Final = 100
#: Time between two looks: well within the time for which the view is believed, so that as long as anybody waits what
#: is in memory can be answered from, and nobody else has to look.
_LOOK_SECONDS: Final = MAX_AGE_SECONDS / 2.0
#: Longest that an answer is withheld.
MAX_WAIT_SECONDS: Final = 60.0

_log = structlog.get_logger("eguard.server")


WhenLost = Callable[[Callable[[], None] | None], None]


class Waiter:
    """An agent that waits for more than a revision, until a time on the loop's clock."""

    __slots__ = ("agent_id", "deadline", "revision", "tell", "timer")

    def __init__(self, agent_id: str, revision: int, deadline: float) -> None:
        self.agent_id = agent_id
        self.revision = revision
        self.deadline = deadline
        self.tell: Callable[[bool], None] | None = None
        self.timer: asyncio.TimerHandle | None = None


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
        self._looking = 0
        self._wakes = 0
        self._waiters: dict[Waiter, None] = {}
        view.on_change(self.notify)

    @property
    def waiting(self) -> int:
        """How many agents wait now."""
        return self._looking + len(self._waiters)

    async def run(self) -> None:
        """Watch until `close` is called or the task is cancelled."""
        self._loop = asyncio.get_running_loop()
        seen = -1
        while not self._is_closed:
            self._poke.clear()
            if self.waiting:
                try:
                    counter = (await asyncio.to_thread(self._view.state, _LOOK_SECONDS / 2.0)).counter
                except FleetStoreError as error:
                    _log.warning("policies cannot be watched", cause=str(error))
                else:
                    if counter != seen:
                        seen = counter
                        self._wake()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poke.wait(), _LOOK_SECONDS)

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
        waiter = self.waiter(agent_id, revision, seconds)
        is_woken = False
        while True:
            found = await self.glance(waiter, look, is_woken=is_woken)
            if found is not None:
                return found
            if not await self._news(waiter, when_lost):
                return False
            is_woken = True

    def waiter(self, agent_id: str, revision: int, seconds: float) -> Waiter:
        """Return an agent that may wait for so long from now on, at most `MAX_WAIT_SECONDS`."""
        return Waiter(agent_id, revision, asyncio.get_running_loop().time() + min(seconds, MAX_WAIT_SECONDS))

    async def glance(
        self, waiter: Waiter, look: Callable[[], Awaitable[int]], *, is_woken: bool = False
    ) -> bool | None:
        """Return true if there is news for an agent, false if it may wait no longer, none if it may wait.

        Whoever is told to wait calls `hold` before anything else runs, so that no change falls between the two.

        Parameters
        ----------
        waiter : Waiter
            Who asks.
        look : callable
            See `wait`.
        is_woken : bool
            The board has just told the agent: what is in memory is what it told of.
        """
        loop = asyncio.get_running_loop()
        self._looking += 1
        try:
            chosen = None if is_woken else self._view.known(waiter.agent_id)
            known = self._view.known_revision(waiter.agent_id) if is_woken else chosen and chosen.revision
            while True:
                wakes = self._wakes
                current = await look() if known is None else known
                if current > waiter.revision:
                    return True
                if loop.time() >= waiter.deadline or self._is_closed:
                    return False
                if wakes == self._wakes:
                    return None
                known = self._view.known_revision(waiter.agent_id)
        finally:
            self._looking -= 1

    def hold(self, waiter: Waiter, tell: Callable[[bool], None]) -> None:
        """Have `tell` called once: with true if there may be something newer, with false if the time is over."""
        waiter.tell = tell
        waiter.timer = asyncio.get_running_loop().call_at(waiter.deadline, partial(self.tell, waiter, is_news=False))
        self._waiters[waiter] = None

    def tell(self, waiter: Waiter, *, is_news: bool) -> None:
        """End an agent's waiting, if it waits."""
        told, timer = waiter.tell, waiter.timer
        waiter.tell = waiter.timer = None
        self._waiters.pop(waiter, None)
        if timer is not None:
            timer.cancel()
        if told is not None:
            told(is_news)

    async def _news(self, waiter: Waiter, when_lost: WhenLost | None) -> bool:
        """Wait until there may be something newer; false if the time is over."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.hold(waiter, partial(_settle, future))
        if when_lost is not None:
            when_lost(partial(self.tell, waiter, is_news=False))
        try:
            return await future
        finally:
            if when_lost is not None:
                when_lost(None)
            self.tell(waiter, is_news=False)

    def _wake(self) -> None:
        self._wakes += 1
        self._wake_some(deque(self._waiters), self._wakes)

    def _wake_some(self, waiters: deque[Waiter], wakes: int) -> None:
        """Wake those for whom there is news, and the others not at all."""
        if wakes != self._wakes:
            return  # a later change goes through all of them anew
        for _ in range(min(WOKEN_AT_ONCE, len(waiters))):
            waiter = waiters.popleft()
            known = self._view.known_revision(waiter.agent_id)
            if self._is_closed or known is None or known > waiter.revision:
                self.tell(waiter, is_news=True)
        if waiters:
            asyncio.get_running_loop().call_soon(self._wake_some, waiters, wakes)


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)

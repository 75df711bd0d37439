"""Answers that are withheld until there is something to say, without a task that waits for each.

A task with the frames of everything that it is in takes several KiB, and an agent's policy is withheld for almost all
of the agent's life. So the handler ends, and says by what it returns that it is not done; it is called again in a task
of its own once the waiting is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.responses import Response

from eguard.server.services.policy_board import PolicyBoard, Waiter

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

#: Answers a request, or returns that the answer is withheld still.
Application = Callable[["Scope", "Receive", "Send"], Awaitable["WithheldPolicy | None"]]
#: Looks whether there is something newer.
Look = Callable[[], Awaitable["Response | WithheldPolicy"]]

#: Key of a request's state by which a protocol says that it can withhold answers.
CAN_WITHHOLD = "can_withhold"


class WithheldPolicy:
    """An agent's policy that is not newer yet.

    Parameters
    ----------
    board : PolicyBoard
        Where the agent waits.
    waiter : Waiter
        For what, and how long.
    look : callable
        Called when the waiting is over.

    Attributes
    ----------
    go_on : Application
        What answers the request then; set by whoever called the handler.
    """

    __slots__ = ("_board", "_ended", "_is_news", "_look", "_waiter", "go_on")

    def __init__(self, board: PolicyBoard, waiter: Waiter, look: Look) -> None:
        self._board = board
        self._waiter = waiter
        self._look = look
        self._is_news = False
        self._ended: Callable[[WithheldPolicy], object] | None = None
        self.go_on: Application | None = None

    def hold(self, ended: Callable[[WithheldPolicy], object]) -> None:
        """Have `ended` called once: when there is news, when the time is over, or when the agent went away."""
        self._ended = ended
        self._board.hold(self._waiter, self._tell)

    def give_up(self) -> None:
        """End the waiting: nobody is there any more."""
        self._board.tell(self._waiter, is_news=False)

    async def answer(self) -> Response | WithheldPolicy:
        """Return what the agent is answered, now that the waiting is over."""
        return await self._look() if self._is_news else Response(status_code=204)

    def _tell(self, is_news: bool) -> None:
        self._is_news = is_news
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self)

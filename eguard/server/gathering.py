"""Questions of many requests that one thread answers together.

To hand work to a thread, to begin a transaction and to make it durable costs the same for one request as for fifty. So
what comes in while a thread is at work is gathered, and is the next piece of its work. Nobody waits for company: what
comes alone is answered alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from eguard.errors import EguardError

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")


class Gathering(Generic[_Question, _Answer]):
    """One kind of question.

    Parameters
    ----------
    run : callable
        Runs a function in a thread.
    answer : callable
        Answers several questions, in their order, in a thread. A question that is refused has its error as answer;
        what is raised refuses them all.
    at_once : int
        Questions answered together at most.

    Notes
    -----
    Belongs to one event loop.
    """

    def __init__(
        self,
        run: Callable[
            [Callable[[list[_Question]], Sequence[_Answer | EguardError]], list[_Question]],
            Awaitable[Sequence[_Answer | EguardError]],
        ],
        answer: Callable[[list[_Question]], Sequence[_Answer | EguardError]],
        at_once: int,
    ) -> None:
        self._run = run
        self._answer = answer
        self._at_once = at_once
        self._waiting: deque[tuple[_Question, asyncio.Future[_Answer]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def ask(self, question: _Question) -> _Answer:
        """Return the answer to a question.

        Raises
        ------
        EguardError
            It is refused.
        """
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._answer_all())
        return await future

    async def _answer_all(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(self._at_once, len(self._waiting)))]
            group = [(question, future) for question, future in group if not future.done()]
            try:
                answers = await self._run(self._answer, [question for question, _ in group])
            except BaseException as error:
                _settle(group, [error] * len(group))
                if not isinstance(error, Exception):
                    _settle(list(self._waiting), [error] * len(self._waiting))
                    raise
            else:
                _settle(group, answers)


def _settle(group: list[tuple[_Question, asyncio.Future[_Answer]]], answers: Sequence[_Answer | BaseException]) -> None:
    for (_, future), answer in zip(group, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, asyncio.CancelledError):
            future.cancel()
        elif isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)

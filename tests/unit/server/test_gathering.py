"""Questions that come while others are answered are answered together."""

import asyncio
import threading

import pytest

from eguard.errors import ServerRefusalError
from eguard.server.gathering import Gathering

REFUSED = ServerRefusalError(403, "no", "not this one")


class Answering:
    """Doubles numbers; odd ones above 100 are refused, and a negative one spoils its whole group."""

    def __init__(self):
        self.groups = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, numbers):
        assert self.may_go_on.wait(10)
        self.groups.append(list(numbers))
        if min(numbers) < 0:
            raise RuntimeError("broken")
        return [REFUSED if number > 100 and number % 2 else 2 * number for number in numbers]


def gathered(answering, numbers, at_once=3):
    """Ask for all numbers while the first one is being answered."""

    async def main():
        gathering = Gathering(asyncio.to_thread, answering, at_once)
        answering.may_go_on.clear()
        tasks = [asyncio.create_task(gathering.ask(number)) for number in numbers[:1]]
        await asyncio.sleep(0.02)
        tasks += [asyncio.create_task(gathering.ask(number)) for number in numbers[1:]]
        await asyncio.sleep(0.02)
        answering.may_go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(main())


def test_what_comes_meanwhile_is_answered_together_and_everybody_gets_an_own_answer():
    answering = Answering()
    assert gathered(answering, [1, 2, 3, 4, 5]) == [2, 4, 6, 8, 10]
    assert answering.groups == [[1], [2, 3, 4], [5]]


def test_one_that_is_refused_spoils_no_other():
    answering = Answering()
    assert gathered(answering, [2, 101, 4]) == [4, REFUSED, 8]


def test_what_breaks_is_told_to_its_group_and_the_next_group_is_answered():
    answering = Answering()
    answers = gathered(answering, [1, -1, 2, 3, 4])
    assert [type(each) for each in answers] == [int, RuntimeError, RuntimeError, RuntimeError, int]


def test_whoever_went_away_is_not_asked_for():
    answering = Answering()

    async def main():
        gathering = Gathering(asyncio.to_thread, answering, 3)
        answering.may_go_on.clear()
        first = asyncio.create_task(gathering.ask(1))
        await asyncio.sleep(0.02)
        gone, there = asyncio.create_task(gathering.ask(2)), asyncio.create_task(gathering.ask(3))
        await asyncio.sleep(0.02)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        answering.may_go_on.set()
        return await asyncio.gather(first, there)

    assert asyncio.run(main()) == [2, 6]
    assert answering.groups == [[1], [3]]

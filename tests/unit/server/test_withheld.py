"""Withheld policies: told once, however the waiting ends, and answered by looking again."""

import asyncio

from starlette.responses import Response

from eguard.server.services.policy_board import PolicyBoard
from eguard.server.withheld import WithheldPolicy


class View:
    """Holds one agent's revision."""

    revision = 1

    def on_change(self, _listener):
        pass

    def known(self, _agent_id):
        return None

    def known_revision(self, _agent_id):
        return self.revision


def run(scenario, seconds=20.0):
    """Run a scenario with a board, a policy that is withheld on it, and the list of whom it told."""

    async def main():
        board = PolicyBoard(View())
        waiter = board.waiter("a1", 1, seconds)

        async def look():
            return Response("newer")

        async def revision():
            return View.revision

        assert await board.glance(waiter, revision) is None
        withheld, told = WithheldPolicy(board, waiter, look), []
        withheld.hold(told.append)
        assert board.waiting == 1
        await scenario(board, withheld)
        assert board.waiting == 0
        assert told == [withheld]
        withheld.give_up()  # too late: it is told once
        assert told == [withheld]
        return await withheld.answer()

    return asyncio.run(main())


def test_closing_the_board_has_everybody_look_again():
    async def scenario(board, _withheld):
        board.close()

    assert run(scenario).body == b"newer"


def test_without_news_the_answer_is_empty_when_the_time_is_over():
    async def scenario(_board, _withheld):
        await asyncio.sleep(0.1)

    assert run(scenario, seconds=0.02).status_code == 204


def test_whoever_went_away_waits_no_longer():
    async def scenario(_board, withheld):
        withheld.give_up()

    assert run(scenario).status_code == 204


def test_a_change_between_the_look_and_the_waiting_is_not_missed():
    async def main():
        board = PolicyBoard(View())
        waiter = board.waiter("a1", 0, 20.0)

        async def look():
            board.close()  # whatever happens while the database is asked
            return 0

        return await board.glance(waiter, look)

    assert asyncio.run(main()) is False

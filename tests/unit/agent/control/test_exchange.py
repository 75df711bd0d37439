"""Work for the runtime's thread: done there, in order, answered, and never begun too late."""

import threading
import time

import pytest

from eguard.agent.control.exchange import Exchange
from eguard.errors import AgentBusyError


@pytest.fixture
def served():
    """An exchange, and a thread that serves it."""
    exchange, stop = Exchange(), threading.Event()

    def serve():
        while not stop.is_set():
            exchange.serve()
            time.sleep(0.001)

    thread = threading.Thread(target=serve, name="runtime")
    thread.start()
    yield exchange
    stop.set()
    thread.join()


def test_work_is_done_by_the_serving_thread_and_its_result_comes_back(served):
    assert served.ask(lambda: threading.current_thread().name) == "runtime"


def test_what_the_work_raises_is_its_askers(served):
    def fail():
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        served.ask(fail)
    assert served.ask(lambda: 1) == 1  # and the runtime lives on


def test_many_askers_each_get_their_own(served):
    found = []
    askers = [threading.Thread(target=lambda n=n: found.append((n, served.ask(lambda: n * n)))) for n in range(20)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert sorted(found) == [(n, n * n) for n in range(20)]


def test_work_that_nobody_came_to_in_time_is_never_begun():
    exchange, done = Exchange(), []
    with pytest.raises(AgentBusyError, match="did not come"):
        exchange.ask(lambda: done.append(1), timeout_seconds=0.05)
    exchange.serve()
    assert done == []


def test_work_that_was_begun_in_time_is_waited_for(served):
    assert served.ask(lambda: time.sleep(0.2) or 5, timeout_seconds=0.05) == 5


def test_closing_tells_those_who_wait_and_those_who_come():
    exchange, caught = Exchange(), []

    def ask():
        try:
            exchange.ask(lambda: 1)
        except AgentBusyError as error:
            caught.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    time.sleep(0.05)
    exchange.close()
    waiting.join()
    ask()
    assert caught == ["the agent is stopping"] * 2

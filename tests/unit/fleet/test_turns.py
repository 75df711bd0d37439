"""Writers take turns: in order, one at a time, and a thread that gave up holds nobody else up."""

import signal
import threading
import time

import pytest

from eguard.fleet.database import Database
from eguard.fleet.turns import Turns

PATIENCE_SECONDS = 20.0


def await_waiting(turns, count):
    until = time.monotonic() + PATIENCE_SECONDS
    while turns.waiting != count:
        assert time.monotonic() < until
        time.sleep(0.001)


def start(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def test_whoever_waited_longest_is_next():
    turns, order = Turns(), []

    def take(number):
        with turns:
            order.append(number)

    with turns:
        threads = []
        for number in range(6):
            threads.append(start(take, number))
            await_waiting(turns, number + 1)
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert order == list(range(6))


def test_whoever_comes_back_at_once_stands_behind_those_who_wait():
    """What a plain lock does not promise: the busy thread asks again before the other one has even woken."""
    turns, order = Turns(), []

    def once():
        with turns:
            order.append("heartbeat")

    with turns:
        waiting = start(once)
        await_waiting(turns, 1)
    with turns:
        order.append("upload")
    waiting.join(PATIENCE_SECONDS)
    assert order == ["heartbeat", "upload"]


def test_the_holder_may_take_it_again_and_keeps_it_until_the_outermost_end():
    turns, order = Turns(), []

    def once():
        with turns:
            order.append("other")

    with turns:
        with turns:
            other = start(once)
            await_waiting(turns, 1)
        order.append("holder")
    other.join(PATIENCE_SECONDS)
    assert order == ["holder", "other"]


def test_no_two_hold_it_at_once():
    turns, inside, most = Turns(), [], []

    def work():
        for _ in range(300):
            with turns:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [start(work) for _ in range(4)]
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert len(most) == 1200
    assert max(most) == 1


def test_an_error_gives_it_back():
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns:
        _ = 1 / 0
    assert not turns.is_taken


class _InterruptedError(BaseException):
    pass


def _interrupt(*_):
    raise _InterruptedError


def test_an_interrupted_waiter_is_passed_over():
    """A command's main thread is interrupted while it waits; who stood behind it is next."""
    turns, order = Turns(), []
    may_end = threading.Event()

    def hold():
        with turns:
            may_end.wait(PATIENCE_SECONDS)

    def interrupt():
        await_waiting(turns, 1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    def take():
        with turns:
            order.append("next")

    holder = start(hold)
    until = time.monotonic() + PATIENCE_SECONDS
    while not turns.is_taken:
        assert time.monotonic() < until
    before = signal.signal(signal.SIGUSR1, _interrupt)
    try:
        start(interrupt)
        with pytest.raises(_InterruptedError), turns:
            order.append("never")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert turns.waiting == 0
    other = start(take)
    await_waiting(turns, 1)
    may_end.set()
    for thread in (holder, other):
        thread.join(PATIENCE_SECONDS)
    assert order == ["next"]
    assert not turns.is_taken


def test_writers_of_a_database_file_take_turns(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/turns.db")
    order = []

    def write(name):
        with database.write() as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS said (name TEXT)")
            order.append(name)

    with database.write():
        threads = []
        for number, name in enumerate(["first", "second", "third"]):
            threads.append(start(write, name))
            until = time.monotonic() + PATIENCE_SECONDS
            while database.waiting_writers != number + 1:
                assert time.monotonic() < until
                time.sleep(0.001)
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    database.dispose()
    assert order == ["first", "second", "third"]

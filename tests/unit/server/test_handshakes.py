"""Handshakes take turns with everything else that the event loop does."""

import asyncio
import time

from eguard.server.handshakes import SLICE_SECONDS, Handshakes

STEP_SECONDS = 0.002


class Connecting:
    """A connection whose handshake takes two steps."""

    def __init__(self, name, done):
        self.name = name
        self.expires_at = 100.0
        self.queued_at = 0.0
        self._done = done

    def advance(self):
        time.sleep(STEP_SECONDS)
        self._done.append(self.name)

    def abort(self):
        self._done.append(f"{self.name} cut")


async def over(handshakes):
    while handshakes.waiting:  # noqa: ASYNC110 - the loop is what is watched
        await asyncio.sleep(0)


async def herd(count):
    """Queue a herd; return how long the loop was not free in between at most, and the order."""
    done, gaps = [], []
    handshakes = Handshakes(asyncio.get_running_loop(), None, timeout_seconds=15.0)
    for number in range(count):
        handshakes.enter(Connecting(number, done), is_first=True)
    while handshakes.waiting:
        began = time.perf_counter()
        await asyncio.sleep(0)
        gaps.append(time.perf_counter() - began)
    return done, sorted(gaps)


def test_a_herd_leaves_the_loop_to_others_every_few_milliseconds():
    done, gaps = asyncio.run(herd(100))
    assert done == list(range(100))
    assert len(gaps) >= 100 * STEP_SECONDS / (SLICE_SECONDS + STEP_SECONDS) / 2
    assert gaps[len(gaps) // 2] < 10 * SLICE_SECONDS


def test_those_that_began_before_go_first():
    async def main():
        done = []
        handshakes = Handshakes(asyncio.get_running_loop(), None, timeout_seconds=15.0)
        for name, is_first in (("new", True), ("begun", False), ("newer", True), ("begun too", False)):
            handshakes.enter(Connecting(name, done), is_first=is_first)
        await over(handshakes)
        return done

    assert asyncio.run(main()) == ["begun", "begun too", "new", "newer"]


def test_waiting_for_its_turn_is_not_taken_off_a_clients_time():
    async def main():
        done, last = [], Connecting("last", [])
        handshakes = Handshakes(asyncio.get_running_loop(), None, timeout_seconds=15.0)
        for number in range(20):
            handshakes.enter(Connecting(number, done), is_first=True)
        handshakes.enter(last, is_first=True)
        handshakes.enter(last, is_first=True)  # once is enough
        await over(handshakes)
        return last.expires_at

    assert asyncio.run(main()) >= 100.0 + 19 * STEP_SECONDS


def test_those_that_are_left_at_the_end_are_cut_off():
    async def main():
        done = []
        handshakes = Handshakes(asyncio.get_running_loop(), None, timeout_seconds=15.0)
        stays, goes = Connecting("stays", done), Connecting("goes", done)
        handshakes.connections |= {stays, goes}
        handshakes.left(goes)
        handshakes.cut_off()
        return done

    assert asyncio.run(main()) == ["stays cut"]

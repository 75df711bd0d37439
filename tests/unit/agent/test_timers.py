"""Duties come round at their intervals, and none stops another."""

import itertools

from eguard.agent.clock_watch import ClockWatch
from eguard.agent.timers import Timers
from eguard.clock import SimulatedClock
from eguard.errors import BaselineStoreError


def test_a_duty_that_fails_stops_no_other_and_comes_round_again():
    clock = SimulatedClock(0.0)
    timers = Timers(clock, jitter_fraction=0.0)
    done = []

    def fail():
        if clock.now() < 25:
            raise BaselineStoreError("disk")

    timers.every("fails", 10.0, fail)
    timers.every("works", 10.0, lambda: done.append(clock.now()))
    for second in (10.0, 20.0, 30.0):
        clock.advance_to(second)
        timers.run_due()
    assert done == [10.0, 20.0, 30.0]
    assert timers.failures == {"fails": 2}


def test_jitter_applies_to_every_interval_and_stays_within_its_share():
    clock = SimulatedClock(0.0)
    timers = Timers(clock, jitter_fraction=0.2, seed=3)
    done = []
    timers.every("look", 100.0, lambda: done.append(clock.now()))
    for second in range(10_000):
        clock.advance_to(float(second))
        timers.run_due()
    gaps = {after - before for before, after in itertools.pairwise(done)}
    assert min(gaps) >= 79
    assert max(gaps) <= 122
    assert len(gaps) > 10


def test_a_duty_can_be_done_out_of_turn():
    timers = Timers(SimulatedClock(0.0))
    done = []
    timers.every("look", 100.0, lambda: done.append("look"))
    timers.every("other", 100.0, lambda: done.append("other"))
    timers.run_now("look")
    assert done == ["look"]


class Machine:
    """A machine whose clock somebody sets."""

    wall, ticks = 1_000_000.0, 50.0

    def now(self):
        return self.wall

    def monotonic(self):
        return self.ticks

    def pass_time(self, seconds, step=0.0):
        self.ticks += seconds
        self.wall += seconds + step


def test_steps_of_the_clock_are_seen_once_and_corrections_are_not():
    machine = Machine()
    watch = ClockWatch(machine)
    seen = []
    for step in (0.0, 30.0, -45.0, 3.2e8, 0.0, -3.2e8):
        machine.pass_time(10.0, step)
        seen.append(round(watch.step(), 3))
    assert seen == [0.0, 0.0, 0.0, 3.2e8, 0.0, -3.2e8]
    assert watch.steps_total == 2

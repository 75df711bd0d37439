"""Recorded dates laid end to end."""

import numpy as np

from eguard.mlops.simulated_days import DAY_SECONDS, SimulatedDays

NOON_OF_DAY_10 = 10 * DAY_SECONDS + DAY_SECONDS / 2


def test_dates_follow_each_other_and_events_keep_their_time_of_day():
    times = np.array([NOON_OF_DAY_10, NOON_OF_DAY_10 + 1, 500 * DAY_SECONDS + 3, 11 * DAY_SECONDS])
    days = SimulatedDays.of(times)
    assert len(days) == 3
    assert days.day_of(times).tolist() == [0, 0, 2, 1]
    assert days.simulated(times).tolist() == [
        NOON_OF_DAY_10,
        NOON_OF_DAY_10 + 1,
        12 * DAY_SECONDS + 3,
        11 * DAY_SECONDS,
    ]


def test_a_day_ends_after_its_events_and_before_the_next_ones():
    times = np.array([10 * DAY_SECONDS, 11 * DAY_SECONDS - 0.001, 40 * DAY_SECONDS])
    days = SimulatedDays.of(times)
    simulated = days.simulated(times)
    assert simulated[1] < days.midnight_after(0) <= simulated[2] < days.midnight_after(1)


def test_times_before_the_epoch_have_a_date_too():
    days = SimulatedDays.of(np.array([-1.0, 1.0]))
    assert days.dates.tolist() == [-1, 0]
    assert days.simulated(np.array([-1.0, 1.0])).tolist() == [-1.0, 1.0]


def test_no_events_have_no_days():
    assert len(SimulatedDays.of(np.empty(0))) == 0

"""Drift and rate alarms of process keys."""

import numpy as np

from eguard.detection.drift import DriftBank, recent_alarm_count
from eguard.detection.engine_options import WindowOptions

SLOTS = np.array([2, 5])


def feed(bank, values):
    return [bank.update_divergence(SLOTS, np.array([value, 0.01])) for value in values]


def test_a_rise_of_the_divergence_alarms_on_its_key_alone():
    rng = np.random.default_rng(2)
    bank = DriftBank(8, WindowOptions())
    quiet = feed(bank, 0.05 + 0.02 * rng.random(200))
    assert not np.any(quiet)
    risen = np.array(feed(bank, 0.15 + 0.02 * rng.random(40)))
    assert risen[:, 0].any()
    assert not risen[:, 1].any()


def test_nothing_alarms_during_the_burn_in():
    bank = DriftBank(8, WindowOptions(drift_burn_in=30))
    assert not np.any(feed(bank, [0.01] * 10 + [5.0] * 20))


def test_a_higher_rate_alarms_and_a_lower_one_does_not():
    rng = np.random.default_rng(3)
    bank = DriftBank(8, WindowOptions())
    for _ in range(100):
        assert not bank.update_rate(SLOTS, 100 * np.exp(0.1 * rng.standard_normal(2))).any()
    alarms = [
        bank.update_rate(SLOTS, np.array([10.0, 1000.0]) * np.exp(0.1 * rng.standard_normal(2))) for _ in range(20)
    ]
    assert np.array(alarms).any(axis=0).tolist() == [True, False]


def test_a_window_without_duration_has_a_finite_rate():
    bank = DriftBank(8, WindowOptions())
    assert bank.update_rate(SLOTS, np.zeros(2)).tolist() == [False, False]


def test_the_last_five_alarms_of_a_key_are_remembered():
    bank = DriftBank(8, WindowOptions())
    for time in range(7):
        bank.note_alarm(2, float(time))
    assert bank.alarms(2) == (2.0, 3.0, 4.0, 5.0, 6.0)
    assert bank.alarms(5) == ()


def test_alarms_count_for_an_hour():
    assert recent_alarm_count((0.0, 10.0), 3600.0) == 1
    assert recent_alarm_count((0.0, 10.0), 3610.0) == 0
    assert recent_alarm_count((), 0.0) == 0


def test_reset_forgets_alarms_and_moments():
    bank = DriftBank(8, WindowOptions(drift_burn_in=3))
    feed(bank, [0.01, 0.02, 0.01, 0.02])
    bank.note_alarm(2, 1.0)
    bank.reset(np.array([2]))
    assert bank.alarms(2) == ()
    assert not np.any(feed(bank, [9.0, 9.0, 9.0]))  # a new burn-in

"""Drift of simulated alert networks with a known step: false alarms a week and delay, as the fleet's trials have them.

Three weeks of hourly counts, Dirichlet-multinomial around one distribution over rules (concentration 400, so that
hours differ by more than sampling), Poisson volume with a daily rhythm. The charts watch the divergence from the first
day by hour. One network is one such stream, not the median of twenty
agents: a shift of .05 takes most of a day here, four cycles in the fleet. A shift moves a share of all alerts to rules
that are rare otherwise.
"""

import numpy as np
import pytest

from eguard.mlops.drift_counts import divergences
from eguard.mlops.drift_detectors import cusum, level, rank_adwin
from eguard.mlops.drift_intervals import poisson_interval

pytestmark = pytest.mark.slow

HOURS = 21 * 24
ONSET = 14 * 24
CENTRE = np.r_[[0.3, 0.2, 0.15, 0.1, 0.08, 0.06, 0.05, 0.04], np.full(8, 0.0025)]
CUSUM = {"k": 0.5, "h": 8.0, "burn_in": 30}


def networks(rng, runs, *, shift=0.0, volume=300.0, rhythm=0.0):
    """Return counts of shape (runs, hours, rules); from `ONSET` on a share `shift` belongs to the eight rare rules."""
    hour = np.arange(HOURS)
    wave = np.sin(2 * np.pi * hour / 24)
    base = np.tile(CENTRE, (HOURS, 1))
    # By day the first rule, by night the second is commoner.
    base[:, 0] += rhythm * wave
    base[:, 1] -= rhythm * wave
    moved = (hour >= ONSET)[:, np.newaxis] * shift
    base = (1 - moved) * base + moved * np.r_[np.zeros(8), np.full(8, 0.125)]
    shares = rng.standard_gamma(400.0 * base, size=(runs, *base.shape))
    shares /= shares.sum(axis=-1, keepdims=True)
    events = rng.poisson(volume * (1 + 0.5 * wave), (runs, HOURS)) + 1
    return rng.multinomial(events, shares)


def watched(counts, reference="pinned"):
    return divergences(counts, 24, min_events=10, same_hour_width=1)[reference]


def first_delays(alarms):
    """Hours from the onset to the end of the first alarming hour; infinity for none. One a run without one before."""
    return np.where(alarms[:, ONSET:].any(axis=1), alarms[:, ONSET:].argmax(axis=1) + 1.0, np.inf)


def test_cusum_alarms_falsely_at_most_once_in_five_weeks():
    alarms, armed = cusum(watched(networks(np.random.default_rng(60), 60)), CUSUM)
    weeks = armed.sum() / 168
    assert poisson_interval(int(alarms.sum()))[1] / weeks < 0.2


@pytest.mark.parametrize(("shift", "longest"), [(0.05, 24.0), (0.1, 5.0), (0.2, 2.0)])
def test_cusum_finds_a_lasting_shift_within_hours(shift, longest):
    counts = networks(np.random.default_rng(61), 30, shift=shift)
    alarms, _ = cusum(watched(counts), CUSUM)
    delays = first_delays(alarms)
    assert np.isfinite(delays).all()
    assert np.median(delays) <= longest


def test_rank_adwin_is_sure_and_slow():
    counts = networks(np.random.default_rng(62), 12, shift=0.1)
    alarms, _ = rank_adwin(watched(counts), {"delta": 0.002, "burn_in": 30})
    delays = first_delays(alarms)
    assert not alarms[:, :ONSET].any()
    assert np.isfinite(delays).all()
    assert 10 <= np.median(delays) <= 48


def test_a_rhythm_hides_a_shift_from_the_first_day_and_not_from_the_same_hour():
    counts = networks(np.random.default_rng(63), 30, shift=0.1, rhythm=0.15)
    by_day = first_delays(cusum(watched(counts), CUSUM)[0])
    by_hour_alarms = cusum(watched(counts, "same_hour"), CUSUM)[0]
    by_hour = first_delays(by_hour_alarms)
    assert np.median(by_hour) <= 4
    assert np.median(by_hour) < np.median(by_day)
    weeks = 30 * (ONSET - 54) / 168
    assert by_hour_alarms[:, :ONSET].sum() / weeks <= 0.2


def test_the_divergence_from_the_hour_before_shows_a_shift_once_if_at_all():
    counts = networks(np.random.default_rng(64), 30, shift=0.3)
    alarms, _ = level(watched(counts, "previous"), {"level_nats": 0.05, "cycles": 1})
    assert alarms[:, ONSET].all()
    assert alarms[:, ONSET + 1 :].mean() < 0.003


def test_the_bias_is_what_stationary_hours_show():
    """Multinomial hours of one distribution: the mean excess is nought."""
    rng = np.random.default_rng(65)
    counts = rng.multinomial(400, np.full(10, 0.1), size=(40, 200))
    excess = watched(counts).excess_nats[:, 24:]
    error = excess.std() / np.sqrt(excess.size)
    assert abs(excess.mean()) < 4 * error + 2e-5

"""CUSUM and rank-ADWIN on the fleet's divergence from its pinned reference: false alarms and delay.

A simulated fleet: agents with distributions of their own around a common one (Dirichlet, concentration 60), lognormal
event counts with a median of 100 a cycle, nine in ten take part; coordinate median, normalised; log of the divergence
from the mean of 28 generations. Runs are few where drawing agents is dear: K = 20 and K = 200 are pooled for the
false-alarm rate, 120,000 stationary cycles in all.
"""

import numpy as np
import pytest
from scipy.stats import chi2

from eguard.estimators.adwin import Adwin
from eguard.estimators.cusum import CusumBank
from eguard.estimators.running_moments import RankStandardiser

pytestmark = pytest.mark.slow

CENTRE = np.array([0.35, 0.2, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02])
PINNED_CYCLES = 28
BURN_IN = 30


def divergence_nats(p, q):
    middle = (p + q) / 2

    def relative_entropy(a):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(a > 0, a * np.log(a / middle), 0.0).sum(axis=-1)

    return np.maximum((relative_entropy(p) + relative_entropy(q)) / 2, 0.0)


class Fleets:
    """Many fleets of one size, simulated side by side, cycle by cycle."""

    def __init__(self, rng, runs, agents):
        self.rng = rng
        self.agents = rng.dirichlet(60 * CENTRE, size=(runs, agents))
        self.reporting = round(0.9 * agents)
        self.pinned = np.mean([self.generation() for _ in range(PINNED_CYCLES)], axis=0)

    def shift(self, total_variation):
        """Every agent moves towards the two rarest classes; the common distribution moves by `total_variation`."""
        share = total_variation / CENTRE[:6].sum()
        self.agents = (1 - share) * self.agents + share * np.r_[np.zeros(6), 0.5, 0.5]

    def generation(self):
        present = self.rng.permutation(self.agents.shape[1])[: self.reporting]
        probabilities = self.agents[:, present]
        events = np.maximum(self.rng.lognormal(np.log(100), 0.5, probabilities.shape[:2]), 1).astype(np.int64)
        median = np.median(self.rng.multinomial(events, probabilities) / events[:, :, None], axis=1)
        return median / median.sum(axis=1, keepdims=True)

    def divergences(self, cycles):
        """JS to the pinned reference in nats, shape (cycles, runs)."""
        return np.array([divergence_nats(self.generation(), self.pinned) for _ in range(cycles)])


def log_series(divergences):
    return np.log(divergences + 1e-9)


def test_stationary_fleets_alarm_at_most_once_in_ten_thousand_cycles():
    """100 fleets of 20 and 20 of 200 agents, 1,000 cycles each."""
    alarms = 0
    for agents, runs in ((20, 100), (200, 20)):
        fleets = Fleets(np.random.default_rng(50 + agents), runs, agents)
        bank = CusumBank(runs, burn_in=BURN_IN)
        for x in log_series(fleets.divergences(BURN_IN + 1000)):
            alarms += int(bank.update(x).sum())
    # Upper 95 % limit of the Poisson rate, in alarms per 1,000 cycles.
    assert chi2.ppf(0.95, 2 * (alarms + 1)) / 2 / 120 <= 0.1


@pytest.mark.parametrize("agents", [20, 200])
@pytest.mark.parametrize(("total_variation", "cycles"), [(0.05, 4), (0.1, 3), (0.2, 2)])
def test_a_lasting_shift_is_found_within_a_day_or_less(agents, total_variation, cycles):
    """40 fleets of 20 or 12 of 200 agents, a shift after 200 cycles; all are found."""
    runs = 40 if agents == 20 else 12
    fleets = Fleets(np.random.default_rng(60), runs, agents)
    bank = CusumBank(runs, burn_in=BURN_IN)
    for x in log_series(fleets.divergences(200)):
        bank.update(x)
    bank.statistic[:] = 0.0
    fleets.shift(total_variation)
    first = np.full(runs, np.inf)
    for t, x in enumerate(log_series(fleets.divergences(12)), start=1):
        first[bank.update(x) & np.isinf(first)] = t
    assert np.median(first) <= cycles
    assert np.isfinite(first).all()


@pytest.mark.parametrize("total_variation", [0.05, 0.1, 0.2])
def test_adwin_on_ranks_finds_every_shift_within_forty_cycles(total_variation):
    """30 fleets of 20 agents, a shift after 200 cycles."""
    fleets = Fleets(np.random.default_rng(61), 30, 20)
    before = fleets.divergences(200)
    fleets.shift(total_variation)
    after = fleets.divergences(60)
    delays = []
    for run in range(30):
        rank, adwin = RankStandardiser(BURN_IN), Adwin()
        alarms = []
        for x in log_series(np.r_[before[:, run], after[:, run]]):
            value = rank.update(x)
            alarms.append(value is not None and adwin.update(value))
        assert not any(alarms[:200])
        delays.append(alarms.index(True) - 199)
    assert np.median(delays) <= 40


def test_adwin_on_ranks_has_no_false_alarm_in_ten_thousand_cycles():
    """10 fleets of 20 agents, 1,000 cycles each."""
    series = log_series(Fleets(np.random.default_rng(62), 10, 20).divergences(BURN_IN + 1000))
    for run in range(10):
        rank, adwin = RankStandardiser(BURN_IN), Adwin()
        ranks = [rank.update(x) for x in series[:, run]]
        assert not any(adwin.update(value) for value in ranks if value is not None)


def test_adwin_on_the_plain_divergence_is_blind_to_a_small_shift():
    """Why it runs on ranks: divergences over ln 2 use a sliver of [0, 1]. 30 fleets, 200 cycles after the shift."""
    fleets = Fleets(np.random.default_rng(63), 30, 20)
    before = fleets.divergences(200)
    fleets.shift(0.05)
    series = np.r_[before, fleets.divergences(200)] / np.log(2)
    for run in range(30):
        adwin = Adwin()
        assert not any(adwin.update(x) for x in series[:, run])

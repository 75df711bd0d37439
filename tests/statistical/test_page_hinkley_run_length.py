"""False-alarm rate and delay of the standardised Page-Hinkley test: the figures its docstring and the handbook print.

Defaults of the bank throughout: k .5, h 20, clip 4, burn-in 30. A rate is accepted when the upper end of its exact 95 %
interval is below the claim, so the number of streams is part of the proof and is written beside each.
"""

import numpy as np
import pytest
from scipy.stats import beta

from eguard.estimators.page_hinkley_bank import PageHinkleyBank
from eguard.estimators.predictive import predictive_concentration

pytestmark = pytest.mark.slow

BURN_IN = 30
# sum over classes of (c/n) log2(c/n), by count.
SHARE = np.arange(129) / 128
NEGENTROPY_BITS = np.where(SHARE > 0, SHARE * np.log2(np.where(SHARE > 0, SHARE, 1.0)), 0.0)


def upper_bound(successes, trials, confidence=0.95):
    """Clopper-Pearson, one-sided."""
    return 1.0 if successes == trials else float(beta.ppf(confidence, successes + 1, trials - successes))


def ever_alarmed(bank, draw, updates):
    alarmed = np.zeros(len(bank), dtype=bool)
    for t in range(updates):
        alarmed |= bank.update(slice(None), draw(t))
    return alarmed


def first_alarms(bank, draw, updates):
    """Updates until the first alarm, infinity without one."""
    first = np.full(len(bank), np.inf)
    for t in range(updates):
        alarms = bank.update(slice(None), draw(t))
        first[alarms & np.isinf(first)] = t + 1
    return first


def test_one_stationary_stream_in_five_hundred_alarms_within_ten_thousand_updates():
    """5,000 streams of Gamma(2) input."""
    rng = np.random.default_rng(20)
    alarmed = ever_alarmed(PageHinkleyBank(5000), lambda _: rng.gamma(2.0, size=5000), BURN_IN + 10_000)
    assert upper_bound(alarmed.sum(), 5000) <= 0.002


@pytest.mark.parametrize(("rise", "updates"), [(1.0, 50), (2.0, 20)])
def test_a_rise_of_one_or_two_deviations_is_found_in_time(rise, updates):
    """2,000 streams of Gamma(2) input that shift after 500 updates; those that had alarmed before are left out."""
    rng = np.random.default_rng(21)
    bank = PageHinkleyBank(2000)
    before = ever_alarmed(bank, lambda _: rng.gamma(2.0, size=2000), 500)
    shift = rise * np.sqrt(2.0)
    delays = first_alarms(bank, lambda _: rng.gamma(2.0, size=2000) + shift, 300)[~before]
    assert np.median(delays) <= updates
    assert np.isfinite(delays).mean() > 0.98


class WindowStreams:
    """KL in bits of 128-event windows against baselines that were learned from events of the same process.

    Each stream has a baseline of its own. Windows come from a pool of 50,000: drawing a count vector costs more than
    all the rest of an update.
    """

    def __init__(self, rng, process, baseline_events, size, *, concentration=None):
        self.rng = rng
        self.size = size
        counts = rng.multinomial(baseline_events, process, size=size)
        posterior = np.array([predictive_concentration(row) for row in counts])
        self.log_reference = np.log2(posterior / posterior.sum(axis=1, keepdims=True))
        self.fill(process, concentration)

    def fill(self, process, concentration=None):
        probabilities = process
        if concentration is not None:
            probabilities = self.rng.dirichlet(concentration * process, size=50_000)
        counts = self.rng.multinomial(128, probabilities, size=50_000)
        self.shares = counts / 128
        self.negentropy = NEGENTROPY_BITS[counts].sum(axis=1)

    def draw(self, updates):
        window = self.rng.integers(0, 50_000, (updates, self.size))
        return self.negentropy[window] - np.einsum("usd,sd->us", self.shares[window], self.log_reference)


EVEN = np.full(8, 0.125)
SKEWED = np.array([0.9, 0.06, 0.02, 0.01, 0.005, 0.003, 0.001, 0.001])
TWO_CLASSES = np.array([0.9, 0.1, 0, 0, 0, 0, 0, 0])
GRADED = np.array([0.4, 0.2, 0.15, 0.1, 0.06, 0.04, 0.03, 0.02])


def test_windows_of_any_process_keep_the_false_alarm_rate():
    """2,400 streams: four kinds of process, baselines of 300 to 10,000 events; P <= .005 in all."""
    rng = np.random.default_rng(22)
    families = [
        WindowStreams(rng, EVEN, 300, 600),
        WindowStreams(rng, SKEWED, 1000, 600),
        WindowStreams(rng, TWO_CLASSES, 300, 600),
        WindowStreams(rng, GRADED, 10_000, 600, concentration=200.0),
    ]
    bank = PageHinkleyBank(2400)
    alarmed = np.zeros(2400, dtype=bool)
    for _ in range(118):  # 118 * 85 = 30 + 10,000
        block = np.hstack([streams.draw(85) for streams in families])
        alarmed |= ever_alarmed(bank, lambda t, block=block: block[t], 85)
    assert upper_bound(alarmed.sum(), 2400) <= 0.005


@pytest.mark.parametrize("baseline_events", [300, 1000])
@pytest.mark.parametrize(("distance", "windows"), [(0.15, 12), (0.3, 8)])
def test_a_shift_of_the_mix_of_events_is_found_in_time(baseline_events, distance, windows):
    """400 streams; the shift moves probability from the most common class to the others."""
    rng = np.random.default_rng(23)
    streams = WindowStreams(rng, GRADED, baseline_events, 400)
    bank = PageHinkleyBank(400)
    before = ever_alarmed(bank, lambda _: streams.draw(1)[0], 100)
    streams.fill(GRADED + distance * np.r_[-1.0, np.full(7, 1 / 7)])
    delays = first_alarms(bank, lambda _: streams.draw(1)[0], 60)[~before]
    assert np.median(delays) <= windows


def test_the_alarm_rate_of_correlated_streams_is_the_printed_limit():
    """AR(1) of Gamma(2) shocks, lag-1 correlation .3, 1,000 streams. The reason for one value a closed window."""
    rng = np.random.default_rng(24)
    state = rng.gamma(2.0, size=1000) / 0.7

    def draw(_):
        nonlocal state
        state = 0.3 * state + rng.gamma(2.0, size=1000)
        return state

    rate = ever_alarmed(PageHinkleyBank(1000), draw, BURN_IN + 10_000).mean()
    assert rate == pytest.approx(0.13, abs=0.05)


@pytest.mark.parametrize(("burn_in", "absorbed"), [(100, 0.18), (30, 0.56)])
def test_a_rise_soon_after_the_burn_in_is_partly_absorbed_as_printed(burn_in, absorbed):
    """+1 deviation 50 updates after the burn-in, 2,000 streams, never found within 3,000 updates."""
    rng = np.random.default_rng(25)
    bank = PageHinkleyBank(2000, min_instances=burn_in)
    before = ever_alarmed(bank, lambda _: rng.gamma(2.0, size=2000), burn_in + 50)
    delays = first_alarms(bank, lambda _: rng.gamma(2.0, size=2000) + np.sqrt(2.0), 1500)[~before]
    assert np.isinf(delays).mean() == pytest.approx(absorbed, abs=0.05)

"""Acceptance of the window test's thresholds: on their own model, on fixed processes, on shifts and on real events.

Rates of fixed processes and power are computed exactly (`kl_exceedance`); only baselines are drawn.
"""

import csv
import gzip
import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from eguard.estimators.predictive import (
    kl_exceedance,
    overdispersion,
    predictive_concentration,
    predictive_kl_thresholds,
)

pytestmark = pytest.mark.slow

WINDOW = 128
MEDIUM = 1e-3
EVEN = np.full(8, 0.125)
SKEWED = np.array([0.9, 0.06, 0.02, 0.01, 0.005, 0.003, 0.001, 0.001])
FOUR_CLASSES = np.array([0.5, 0.3, 0.15, 0.05, 0, 0, 0, 0])


def reference(baseline):
    concentration = predictive_concentration(baseline)
    return concentration / concentration.sum()


def medium_threshold(baseline):
    return float(predictive_kl_thresholds(baseline, WINDOW, [MEDIUM])[0])


def divergences(counts, q):
    shares = counts / WINDOW
    return np.where(counts > 0, shares * np.log2(np.where(counts > 0, shares, 1.0) / q), 0.0).sum(axis=1)


@pytest.mark.parametrize("process", [EVEN, SKEWED, FOUR_CLASSES])
def test_windows_drawn_from_the_posterior_exceed_the_threshold_at_its_rate(process):
    """(i) 200,000 windows of one key with 300 events, its own posterior: the rate within its binomial interval."""
    rng = np.random.default_rng(70)
    baseline = np.round(300 * process)
    counts = rng.multinomial(WINDOW, rng.dirichlet(predictive_concentration(baseline), size=200_000))
    exceeded = int((divergences(counts, reference(baseline)) > medium_threshold(baseline)).sum())
    assert binom.ppf(0.005, 200_000, 0.85 * MEDIUM) <= exceeded <= binom.ppf(0.995, 200_000, MEDIUM)


@pytest.mark.parametrize(("events", "baselines", "most"), [(300, 200, 2.0), (1000, 200, 1.5), (10_000, 40, 1.2)])
def test_a_fixed_even_process_keeps_the_mean_rate(events, baselines, most):
    """(ii) Baselines drawn from the process, rates exact. At 10,000 events they hardly differ: 40 are enough."""
    rng = np.random.default_rng(71)
    rates = []
    for _ in range(baselines):
        baseline = rng.multinomial(events, EVEN)
        rates.append(kl_exceedance(medium_threshold(baseline), reference(baseline), EVEN, WINDOW))
    assert np.mean(rates) <= most * MEDIUM
    # Not by being useless.
    assert np.mean(rates) >= 0.5 * MEDIUM


def test_a_process_with_structural_zeros_stays_below_the_rate():
    """(ii) 40 baselines of 300 events in four of eight classes: smoothing makes the test conservative."""
    rng = np.random.default_rng(72)
    rates = []
    for _ in range(40):
        baseline = rng.multinomial(300, FOUR_CLASSES)
        rates.append(kl_exceedance(medium_threshold(baseline), reference(baseline), FOUR_CLASSES, WINDOW))
    assert np.mean(rates) < MEDIUM


def shifted_at_random(rng, process, distance):
    """Return `process` moved by `distance` in total variation, in a random direction that stays a distribution."""
    while True:
        direction = rng.normal(size=process.size)
        direction -= direction.mean()
        moved = process + distance * direction * 2 / np.abs(direction).sum()
        if moved.min() >= 0:
            return moved / moved.sum()


def test_a_shift_in_a_random_direction_is_seen():
    """(iv) 1,000 events, total variation .3, delta_medium: 20 baselines of an even process, 5 directions each."""
    rng = np.random.default_rng(73)
    power = []
    for _ in range(20):
        baseline = rng.multinomial(1000, EVEN)
        threshold, q = medium_threshold(baseline), reference(baseline)
        power.extend(kl_exceedance(threshold, q, shifted_at_random(rng, EVEN, 0.3), WINDOW) for _ in range(5))
    assert np.mean(power) >= 0.95


def test_the_least_favourable_shift_is_seen_on_average():
    """(iv) The same for the four of eight classes whose common rise diverges least from the learned baseline.

    All 70 sets are tried on each of 20 baselines; against an even process itself the power is .99.
    """
    rng = np.random.default_rng(74)
    power = []
    for _ in range(20):
        baseline = rng.multinomial(1000, EVEN)
        threshold, q = medium_threshold(baseline), reference(baseline)
        candidates = []
        for rising in itertools.combinations(range(8), 4):
            up = np.isin(np.arange(8), rising)
            traffic = EVEN + 0.3 * np.where(up, 0.25, -0.25)
            divergence = float((traffic * np.log2(traffic / q)).sum())
            candidates.append((divergence, rising, traffic))
        least = min(candidates, key=lambda candidate: candidate[:2])[2]
        power.append(kl_exceedance(threshold, q, least, WINDOW))
    assert np.mean(power) >= 0.95


# Eight classes over all event types of the shipped captures, so that every event counts; the rest is class 7.
CLASS_OF_TYPE = {
    event_type: index
    for index, types in enumerate(
        (
            "proc_access remote_thread",
            "module_load driver_load",
            "reg_key reg_set reg_rename",
            "handle_close handle_req handle_dup obj_access",
            "net net_bind net_listen dns",
            "file_create file_delete file_block file_time file_stream file_exec raw_read",
            "exec exit logon logoff priv_logon logon_explicit logon_fail",
        )
    )
    for event_type in types.split()
}


def real_keys(baseline_events):
    """Baseline and windows of every (host, image) of the shipped events with at least eleven windows."""
    path = Path(__file__).parents[2] / "data" / "raw" / "endpoint-events" / "events.csv.gz"
    classes = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            classes[row["host"], row["image"]].append(CLASS_OF_TYPE.get(row["event_type"], 7))
    for _, sequence in sorted(classes.items()):
        windows = (len(sequence) - baseline_events) // WINDOW
        if windows > 10:
            baseline = np.bincount(sequence[:baseline_events], minlength=8)
            rest = np.reshape(sequence[baseline_events : baseline_events + windows * WINDOW], (windows, WINDOW))
            yield baseline, np.array([np.bincount(window, minlength=8) for window in rest])


def test_real_windows_keep_the_rates_once_their_burstiness_is_measured():
    """(iii) Shipped events, baselines of 1,000, after ten windows: at most 1 % and .1 %; plainly a third would alarm.

    Thresholds rise with phi, so a window clearly below that of phi rounded down (in steps of 15 %) needs no
    programme of its own.
    """
    judged = plain = medium = high = 0
    for baseline, windows in real_keys(1000):
        q = reference(baseline)
        bits = divergences(windows, q)
        at_step = {}
        for i in range(10, len(windows)):
            judged += 1
            phi = overdispersion(windows[:i], q)
            for step in (0, int(np.log(phi) / np.log(1.15))):
                if step not in at_step:
                    at_step[step] = predictive_kl_thresholds(
                        baseline, WINDOW, [MEDIUM], phi=1.15**step, grid_bits=0.01
                    )[0]
            plain += bits[i] > at_step[0]
            if bits[i] > at_step[step] - 0.1:
                thresholds = predictive_kl_thresholds(baseline, phi=phi)
                medium += bits[i] > thresholds[0]
                high += bits[i] > thresholds[1]
    assert judged > 2000
    assert plain / judged > 0.2
    assert medium / judged <= 0.01
    assert high / judged <= 0.001

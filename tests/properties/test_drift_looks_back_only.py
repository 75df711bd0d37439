"""What comes later moves no alarm of a drift detector, and alerts may be counted in parts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.events import EventBatch
from eguard.mlops.drift_alerts import HOUR_SECONDS, split_networks
from eguard.mlops.drift_counts import step_counts
from eguard.mlops.drift_params import DriftParams
from eguard.mlops.drift_streams import SeriesOptions, hourly_bank

HOURS = 90
OPTIONS = SeriesOptions(min_events=5, window_events=16)
PARAMS = DriftParams(
    level_cycles=(1,), burn_in=(12,), cusum_h=(3.0,), page_hinkley_burn_in=8, page_hinkley_threshold=(5.0,)
)


def alerts(seed, tail_seed=None, cut=None):
    """Ninety hours of alerts with a change in the middle; after hour `cut` those of another seed."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0.0, HOURS * HOUR_SECONDS, 2_500))
    times[0] = 0.0
    rules = np.where(rng.random(2_500) < 0.5 + 0.4 * (times > 60 * HOUR_SECONDS), rng.integers(0, 3, 2_500), 3)
    hosts = rng.integers(0, 2, 2_500)
    if cut is not None:
        other_times, other_rules, other_hosts = alerts(tail_seed)
        early, late = times < cut * HOUR_SECONDS, other_times >= cut * HOUR_SECONDS
        times = np.r_[times[early], other_times[late]]
        rules = np.r_[rules[early], (other_rules[late] + 1) % 4]
        hosts = np.r_[hosts[early], other_hosts[late]]
    return times, rules, hosts


def network(times, rules, hosts):
    batch = EventBatch(
        time_unix=times,
        group=["n"] * times.size,
        host_id=[f"h{host}" for host in hosts],
        rule_id=[f"R{rule}" for rule in rules],
        event_class=[7] * times.size,
    )
    return split_networks(batch, 24)[0]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(30, 88))
def test_another_future_moves_no_alarm(seed, cut):
    banks = [
        hourly_bank([network(*alerts(seed))], OPTIONS),
        hourly_bank([network(*alerts(seed, seed + 1, cut))], OPTIONS),
    ]
    horizon = cut * HOUR_SECONDS
    for detector in PARAMS.detectors():
        found = []
        for bank in banks:
            times, _ = bank.alarms(detector, detector.grid[0])
            rows = [row for row, key in enumerate(bank.keys) if key.stream == "all"]
            found.append([times[row][times[row] < horizon].tolist() for row in rows])
        assert found[0] == found[1], detector.name


def test_the_alarms_that_must_not_move_exist():
    bank = hourly_bank([network(*alerts(1))], OPTIONS)
    raised = {
        detector.name: sum(len(times) for times in bank.alarms(detector, detector.grid[0])[0])
        for detector in PARAMS.detectors()
    }
    assert sum(count > 0 for count in raised.values()) >= 4, raised


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 2_500), max_size=4))
def test_counts_of_parts_add_up(seed, cuts):
    whole = network(*alerts(seed))
    total = np.zeros_like(step_counts(whole))
    edges = sorted({0, len(whole.time_unix), *(min(cut, len(whole.time_unix)) for cut in cuts)})
    for start, stop in pairwise(edges):
        hour = ((whole.time_unix[start:stop] - whole.start_unix) // HOUR_SECONDS).astype(int)
        np.add.at(total, (whole.step[start:stop], whole.host[start:stop], hour, whole.rule_class[start:stop]), 1)
    assert np.array_equal(total, step_counts(whole))


@pytest.mark.parametrize("seed", [0, 7])
def test_the_order_of_delivery_does_not_matter(seed):
    times, rules, hosts = alerts(seed)
    order = np.random.default_rng(seed).permutation(times.size)
    straight, shuffled = network(times, rules, hosts), network(times[order], rules[order], hosts[order])
    assert np.array_equal(straight.rule_class, shuffled.rule_class)
    assert np.array_equal(step_counts(straight), step_counts(shuffled))

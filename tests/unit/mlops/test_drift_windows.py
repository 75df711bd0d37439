"""Windows of alerts: the batch form beside the streaming one that feature 23 uses."""

import numpy as np
import pytest

from eguard.detection.engine_options import WindowOptions
from eguard.detection.rule_drift import RuleDrift
from eguard.estimators import kl_divergence_bits
from eguard.events import EventBatch
from eguard.mlops.drift_alerts import HOUR_SECONDS, split_networks
from eguard.mlops.drift_windows import window_series

OPTIONS = WindowOptions(window_events=16, drift_burn_in=10, drift_threshold=10.0)


def network(rng, *, flood=True):
    """Three days of one network with two hosts; on the third a flood of a new rule."""
    times = np.sort(np.r_[0.0, rng.uniform(0.0, 72 * HOUR_SECONDS, 2_000)])
    rules = [f"R{rule}" for rule in rng.choice(6, times.size, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])]
    labels = [""] * times.size
    if flood:
        burst = np.sort(rng.uniform(60 * HOUR_SECONDS, 60.2 * HOUR_SECONDS, 400))
        times, rules, labels = np.r_[times, burst], rules + ["scan"] * 400, labels + ["dirb"] * 400
    order = np.argsort(times, kind="stable")
    batch = EventBatch(
        time_unix=times[order],
        group=["n"] * times.size,
        host_id=[f"h{index % 2}" for index in range(times.size)],
        rule_id=[rules[i] for i in order],
        label=[labels[i] for i in order],
        event_class=[7] * times.size,
    )
    (found,) = split_networks(batch, 24)
    return found, batch


def every_step(found):
    return np.ones(len(found.steps), dtype=np.bool_)


def test_alarms_are_those_of_the_streaming_form():
    found, batch = network(np.random.default_rng(6))
    windows = window_series(found, every_step(found), 24, OPTIONS.window_events, hosts=False)
    streaming = RuleDrift(OPTIONS)
    streaming.update(batch.rule_id, batch.time_unix)
    by_kl, by_rate = windows.alarms(OPTIONS, of_rate=False), windows.alarms(OPTIONS, of_rate=True)
    assert by_kl.any()
    assert by_rate.any()
    assert by_kl.sum() + by_rate.sum() == streaming.alarms


def test_a_window_is_tested_against_all_before_it_and_then_learned():
    found, _ = network(np.random.default_rng(7), flood=False)
    windows = window_series(found, every_step(found), 24, 16, hosts=False)
    start = int(np.searchsorted(found.time_unix, 24 * HOUR_SECONDS))
    for index in (0, 1, len(windows.kl_bits) - 1):
        first = start + 16 * index
        before = np.bincount(found.rule_class[:first], minlength=64)
        inside = np.bincount(found.rule_class[first : first + 16], minlength=64)
        assert windows.kl_bits[index] == pytest.approx(float(kl_divergence_bits(inside, before)))
        assert windows.closed_unix[index] == found.time_unix[first + 15]
        assert windows.duration_seconds[index] == found.time_unix[first + 15] - found.time_unix[first]


def test_hosts_have_windows_of_their_own_and_what_does_not_fill_is_dropped():
    found, _ = network(np.random.default_rng(8), flood=False)
    windows = window_series(found, every_step(found), 24, 16)
    assert windows.n_series == 3
    after = found.time_unix >= 24 * HOUR_SECONDS
    for series in (1, 2):
        alerts = int((after & (found.host == series - 1)).sum())
        assert int((windows.series == series).sum()) == alerts // 16
    assert (np.diff(windows.series) >= 0).all()


def test_a_stream_without_a_step_has_no_window_of_it():
    found, _ = network(np.random.default_rng(9))
    ordinary = np.array([step == "" for step in found.steps])
    without = window_series(found, ordinary, 24, 16, hosts=False)
    assert len(window_series(found, every_step(found), 24, 16, hosts=False).kl_bits) - len(without.kl_bits) == 25
    assert not without.alarms(OPTIONS, of_rate=True).any()


def test_armed_when_the_burn_in_has_closed():
    found, _ = network(np.random.default_rng(10), flood=False)
    windows = window_series(found, every_step(found), 24, 16, hosts=False)
    assert windows.armed_unix(OPTIONS).tolist() == [windows.closed_unix[9]]
    assert windows.armed_unix(WindowOptions(drift_burn_in=10_000)).tolist() == [np.inf]

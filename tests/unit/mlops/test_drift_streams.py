"""Streams and series side by side."""

import numpy as np

from eguard.events import EventBatch
from eguard.mlops.drift_alerts import HOUR_SECONDS, split_networks
from eguard.mlops.drift_params import DriftParams
from eguard.mlops.drift_streams import (
    ALL,
    ATTACKS_REMOVED,
    NO_FLOODS,
    SeriesKey,
    SeriesOptions,
    daily_bank,
    hourly_bank,
    streams_of,
)

OPTIONS = SeriesOptions(min_events=1, window_events=8)


def network(name, seed, hours):
    rng = np.random.default_rng(seed)
    n = 30 * hours
    times = np.sort(np.r_[0.0, rng.uniform(0.0, hours * HOUR_SECONDS, n - 1)])
    label = np.where((times > 50 * HOUR_SECONDS) & (times < 52 * HOUR_SECONDS), "scan", "")
    label[(times > 53 * HOUR_SECONDS) & (times < 54 * HOUR_SECONDS)] = "dirb"
    batch = EventBatch(
        time_unix=times,
        group=[name] * n,
        host_id=[f"{name}/h{host}" for host in rng.integers(0, 2, n)],
        rule_id=[f"R{rule}" for rule in rng.integers(0, 5, n)],
        label=label.tolist(),
        event_class=[7] * n,
    )
    return split_networks(batch, 24)[0]


def test_streams_are_all_without_floods_without_attacks_and_each_step_alone():
    found = dict(streams_of(network("a", 1, 60)))
    steps = network("a", 1, 60).steps
    kept = {stream: [step for step, is_in in zip(steps, mask, strict=True) if is_in] for stream, mask in found.items()}
    assert kept == {
        ALL: ["", "dirb", "scan"],
        NO_FLOODS: ["", "scan"],
        ATTACKS_REMOVED: [""],
        "dirb": ["", "dirb"],
        "scan": ["", "scan"],
    }


def test_series_of_all_networks_are_padded_and_equal_those_of_each_alone():
    networks = [network("a", 1, 60), network("b", 2, 80)]
    bank = hourly_bank(networks, OPTIONS)
    assert len(bank.keys) == len(set(bank.keys)) == 2 * (3 * 3 + 2)
    assert bank.divergence["pinned"].js_nats.shape == (len(bank.keys), 80)
    for own in networks:
        alone = hourly_bank([own], OPTIONS)
        for row, key in enumerate(alone.keys):
            place = bank.keys.index(key)
            for reference, divergence in alone.divergence.items():
                values = bank.divergence[reference].js_nats[place]
                assert np.array_equal(values[: own.n_hours], divergence.js_nats[row], equal_nan=True)
                assert np.isnan(values[own.n_hours :]).all()
            windows = [
                bank.windows.kl_bits[bank.windows.series == place],
                alone.windows.kl_bits[alone.windows.series == row],
            ]
            assert np.array_equal(*windows)
            assert (bank.start_unix[place], bank.end_unix[place]) == (own.start_unix, own.end_unix)


def test_an_hours_alarm_is_raised_at_its_end():
    bank = hourly_bank([network("a", 1, 60)], OPTIONS)
    detector = next(found for found in DriftParams().detectors() if found.name == "level, pinned")
    times, armed = bank.alarms(detector, {"level_nats": -1.0, "cycles": 1})
    row = bank.keys.index(SeriesKey("a", ALL, ""))
    assert times[row].tolist() == [25 * HOUR_SECONDS]  # the first hour that is compared
    assert armed[row] == 24 * HOUR_SECONDS


def test_days_have_no_windows_and_no_alarms_of_them():
    bank = daily_bank([network("a", 1, 60)], OPTIONS)
    assert bank.period_hours == 24
    assert bank.divergence["pinned"].js_nats.shape[1] == 2
    detector = next(found for found in DriftParams().detectors() if found.raise_alarms is None)
    times, armed = bank.alarms(detector, detector.grid[0])
    assert [len(own) for own in times] == [0] * len(bank.keys)
    assert np.isinf(armed).all()


def test_no_network_is_an_empty_bank():
    bank = hourly_bank([], OPTIONS)
    assert bank.keys == ()
    assert bank.windows.n_series == 0

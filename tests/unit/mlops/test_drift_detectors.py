"""Each detector on series whose alarms are known."""

import numpy as np
import pytest

from eguard.estimators import Adwin, Cusum, conformal_threshold
from eguard.mlops.drift_counts import Divergence
from eguard.mlops.drift_detectors import adwin, conformal, cusum, detectors, level, rank_adwin

CUSUM = {"k": 0.5, "h": 8.0, "burn_in": 30}


def divergence(values, bias=0.0):
    js = np.atleast_2d(np.array(values, dtype=np.float64))
    return Divergence(js, np.full(js.shape, bias))


def stationary(rng, n):
    return np.exp(rng.normal(-4.0, 0.3, n))


def periods(flags):
    return np.flatnonzero(flags[0]).tolist()


def test_level_wants_its_cycles_running_and_skips_periods_without_a_value():
    values = [0.3, 0.0, 0.3, np.nan, 0.3, 0.3, 0.0, 0.3, 0.3]
    assert periods(level(divergence(values), {"level_nats": 0.2, "cycles": 2})[0]) == [4, 8]
    assert periods(level(divergence(values), {"level_nats": 0.2, "cycles": 1})[0]) == [0, 2, 7]


def test_level_is_held_against_the_excess_over_the_bias():
    assert periods(level(divergence([0.3], bias=0.15), {"level_nats": 0.2, "cycles": 1})[0]) == []


def test_conformal_uses_the_exact_rank_of_the_values_before():
    rng = np.random.default_rng(1)
    values = rng.uniform(0.0, 0.1, 130)
    values[[60, 125]] = 0.5
    alarms, armed = conformal(divergence(values), {"alpha": 0.05})
    assert periods(armed)[0] == 19  # fewer than 19 values have no threshold at 1 in 20
    for period in range(19, 130):
        past = values[max(0, period - 120) : period]
        assert alarms[0, period] == (values[period] > conformal_threshold(past, 0.05).threshold)
    assert {60, 125} <= set(periods(alarms))


def test_conformal_does_not_alarm_where_there_is_less_than_chance_brings():
    assert periods(conformal(divergence(np.linspace(0.0, 0.1, 60), bias=0.2), {"alpha": 0.05})[0]) == []


def test_cusum_is_the_chart_on_the_logarithm_gated_by_the_bias():
    rng = np.random.default_rng(2)
    values = np.r_[stationary(rng, 60), 0.2, 0.2, 0.2]
    chart = Cusum(0.5, 8.0, 30)
    expected = [i for i, value in enumerate(values) if chart.update(np.log(value + 1e-9))]
    alarms, armed = cusum(divergence(values), CUSUM)
    assert periods(alarms) == expected
    assert 61 in expected
    assert periods(armed)[0] == 30
    assert periods(cusum(divergence(values, bias=0.3), CUSUM)[0]) == []


def test_plain_adwin_is_blind_to_what_rank_adwin_sees():
    rng = np.random.default_rng(3)
    values = np.r_[stationary(rng, 120), 3.0 * stationary(rng, 120)]
    plain = adwin(divergence(values), {"delta": 0.002})[0]
    ranked, armed = rank_adwin(divergence(values), {"delta": 0.002, "burn_in": 30})
    assert periods(plain) == []
    assert periods(ranked)[0] in range(121, 181)
    assert periods(armed)[0] == 41


def test_adwin_says_nothing_of_a_fall():
    rng = np.random.default_rng(4)
    values = np.r_[rng.beta(30, 20, 200), rng.beta(5, 45, 200)] * np.log(2)
    detector = Adwin(0.002)
    assert any(detector.update(value / np.log(2)) for value in values)
    assert periods(adwin(divergence(values), {"delta": 0.002})[0]) == []
    assert periods(adwin(divergence(values[::-1]), {"delta": 0.002})[0])


@pytest.mark.parametrize("raise_alarms", [cusum, rank_adwin])
def test_series_do_not_touch_one_another(raise_alarms):
    rng = np.random.default_rng(5)
    rows = np.array([np.r_[stationary(rng, 50), np.full(10, 0.3)], stationary(rng, 60)])
    rows[1, ::7] = np.nan
    settings = CUSUM | {"delta": 0.05}
    together = raise_alarms(divergence(rows), settings)
    for row in (0, 1):
        alone = raise_alarms(divergence(rows[row]), settings)
        assert np.array_equal(together[0][row], alone[0][0])
        assert np.array_equal(together[1][row], alone[1][0])


def test_every_detector_has_its_default_first():
    grid = {name: ({"default": 1.0}, {"default": 0.0}) for name in
            ("level", "conformal", "cusum", "adwin", "rank_adwin", "windows")}  # fmt: skip
    found = detectors(grid)
    assert len({detector.name for detector in found}) == len(found) == 12
    assert all(detector.grid[0]["default"] == 1.0 for detector in found)
    assert [detector.name for detector in found if detector.raise_alarms is None] == [
        "Page-Hinkley, KL of windows",
        "Page-Hinkley, rate of windows",
    ]

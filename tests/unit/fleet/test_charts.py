"""The fleet's two series: what is found, what is not learned, and what is kept."""

import math

import numpy as np
import pytest

from eguard.fleet.charts import (
    BURN_IN_CYCLES,
    JS_FLOOR_NATS,
    Measured,
    PreviousChart,
    ReferenceChart,
)

RNG_SEED = 20


def noise(cycles, seed=RNG_SEED, level=1e-3, reference=1):
    """A stationary fleet's divergences: a fifth of their size up and down."""
    rng = np.random.default_rng(seed)
    return [Measured(js, level, reference) for js in (level * np.exp(0.2 * rng.standard_normal(cycles))).tolist()]


def kinds(chart, values, **named):
    return [[finding.kind for finding in chart.update(value, **named)] for value in values]


def flat(found):
    return [kind for each in found for kind in each]


def learned(cycles=60):
    chart = ReferenceChart()
    assert kinds(chart, noise(cycles)) == [[]] * cycles
    return chart


def test_the_series_is_the_logarithm_above_the_floor_with_capped_increments():
    chart = ReferenceChart()
    for value in noise(BURN_IN_CYCLES):
        chart.update(value)
    series = [math.log(value.js_nats + JS_FLOOR_NATS) for value in noise(BURN_IN_CYCLES)]
    x = np.mean(series) + 2.0 * np.std(series, ddof=1)
    chart.update(Measured(math.exp(x) - JS_FLOOR_NATS, 1e-3, 1))
    assert chart.cusum.statistic == pytest.approx(1.5)
    chart.update(Measured(0.05, 1e-3, 1))
    assert chart.cusum.statistic == pytest.approx(1.5 + 3.5)


def test_a_lasting_shift_alarms_in_its_third_cycle_and_one_spike_never():
    chart = learned()
    assert kinds(chart, noise(4, level=1e-2)) == [[], [], ["cusum"], []]
    spiked = learned()
    assert kinds(spiked, [Measured(0.5, 1e-3, 1), *noise(30, seed=3)]) == [[]] * 31


def test_ranks_find_a_small_shift_that_lasts():
    found = kinds(learned(120), noise(60, seed=5, level=1.7e-3), is_suspected=True)
    assert "rank_adwin" in flat(found)
    assert "rank_adwin" not in flat(found[:10])


def test_a_fall_is_no_alarm():
    assert flat(kinds(learned(120), noise(120, level=2e-4))) == []
    quieter = PreviousChart()
    falling = noise(150, level=0.4) + noise(150, level=0.01)
    assert "adwin" not in flat(kinds(quieter, [value._replace(bias_nats=1.0) for value in falling]))
    assert quieter.adwin.width < 200


def test_what_is_suspected_is_judged_and_not_learned():
    chart = learned()
    assert kinds(chart, noise(3, level=1e-2))[-1] == ["cusum"]
    before = chart.cusum.count
    # The sum restarts after an alarm: the shift goes on alarming every third cycle, for as long as it lasts.
    found = kinds(chart, noise(30, seed=9, level=1e-2), is_suspected=True)
    assert chart.cusum.count == before
    assert [i for i, each in enumerate(found) if "cusum" in each] == list(range(2, 30, 3))


def test_after_an_attack_the_chart_goes_on_from_its_last_quiet_cycle():
    attacked, spared = learned(), learned()
    kinds(attacked, noise(3, level=1e-2))
    kinds(attacked, noise(30, seed=9, level=1e-2), is_suspected=True)
    attacked.calm()
    later = noise(40, seed=11)
    assert kinds(attacked, later) == [[]] * 40
    kinds(spared, later)
    assert abs(attacked.cusum.count - spared.cusum.count) <= 3
    assert attacked.to_dict()["rank_mean"] == pytest.approx(spared.to_dict()["rank_mean"], abs=0.1)


def test_another_reference_begins_everything_anew():
    chart = learned()
    assert kinds(chart, noise(BURN_IN_CYCLES, level=1e-2, reference=7)) == [[]] * BURN_IN_CYCLES
    assert (chart.reference, chart.cusum.count, chart.to_dict()["is_learning"]) == (7, BURN_IN_CYCLES, False)


@pytest.mark.parametrize("chart", [ReferenceChart, PreviousChart])
def test_the_manuals_line_needs_two_cycles_after_each_other(chart):
    high, low = Measured(0.16, 0.05, 1), Measured(0.14, 0.05, 1)
    assert kinds(chart(), [high, low, high, high, high]) == [[], [], [], ["js_level"], ["js_level"]]
    paused = chart()
    paused.update(high)
    paused.pause()
    assert kinds(paused, [high]) == [[]]


def test_the_manuals_adwin_finds_only_what_spreads_over_its_range():
    chart = PreviousChart()
    quiet = [value._replace(bias_nats=1.0) for value in noise(100, level=0.01)]
    loud = [value._replace(bias_nats=1.0) for value in noise(100, level=0.4)]
    found = kinds(chart, quiet + loud)
    assert flat(found[:100]) == []
    assert "adwin" in flat(found[100:130])


@pytest.mark.parametrize("chart", [ReferenceChart, PreviousChart])
def test_a_stored_chart_goes_on_as_if_there_had_been_no_pause(chart):
    straight, paused = chart(), chart()
    for value in noise(50) + noise(20, seed=4, level=4e-3):
        paused = chart.decode(paused.encode())
        assert paused.update(value) == straight.update(value)
    assert paused.encode() == straight.encode()
    assert len(straight.encode()) < 4000


@pytest.mark.parametrize("chart", [ReferenceChart, PreviousChart])
def test_a_state_of_another_version_is_not_read(chart):
    made = chart()
    kinds(made, noise(50))
    stored = made.encode().replace(b'"version":1', b'"version":2')
    assert chart.decode(stored).encode() == chart().encode()

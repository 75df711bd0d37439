"""Properties of the drift detectors: banks equal single forms, invariances, limits."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eguard.estimators.adwin import Adwin, adwin_epsilon
from eguard.estimators.cusum import Cusum, CusumBank
from eguard.estimators.page_hinkley import PageHinkley
from eguard.estimators.page_hinkley_bank import PageHinkleyBank

values = st.floats(-1e6, 1e6, allow_nan=False, width=64)
page_hinkley_parameters = st.fixed_dictionaries(
    {
        "delta": st.sampled_from([0.0, 0.1, 0.5]),
        "threshold": st.sampled_from([0.5, 3.0, 20.0]),
        "direction": st.sampled_from(["up", "down", "both"]),
        "min_instances": st.integers(2, 6),
        "standardise": st.booleans(),
        "clip": st.sampled_from([1.0, 4.0, np.inf]),
        "forgetting": st.sampled_from([1.0, 0.9]),
        "deviation_floor": st.sampled_from([1e-9, 0.008]),
    }
)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), parameters=page_hinkley_parameters, size=st.integers(1, 6))
def test_a_bank_is_as_many_single_detectors_to_the_last_bit(data, parameters, size):
    """Any ticks: all streams as a slice, some in any order, some twice."""
    bank = PageHinkleyBank(size, **parameters)
    singles = [PageHinkley(**parameters) for _ in range(size)]
    for _ in range(data.draw(st.integers(1, 25), label="ticks")):
        slots = data.draw(st.lists(st.integers(0, size - 1), min_size=0, max_size=2 * size), label="slots")
        everything = data.draw(st.booleans(), label="everything")
        if everything:
            slots = list(range(size))
        x = data.draw(arrays(np.float64, len(slots), elements=values), label="x")
        alarms = bank.update(slice(None) if everything else slots, x)
        assert alarms.tolist() == [singles[slot].update(value) for slot, value in zip(slots, x, strict=True)]
        assert bank.statistic.tolist() == [single.statistic for single in singles]
        assert bank.count.tolist() == [single.count for single in singles]
        assert bank.state[1].tolist() == [single.mean for single in singles]


@settings(max_examples=60, deadline=None)
@given(stream=arrays(np.float64, st.integers(1, 80), elements=values), parameters=page_hinkley_parameters)
def test_turning_the_stream_upside_down_turns_the_direction(stream, parameters):
    turned = {"up": "down", "down": "up", "both": "both"}[parameters["direction"]]
    detector, mirror = PageHinkley(**parameters), PageHinkley(**parameters | {"direction": turned})
    for x in stream:
        assert detector.update(x) == mirror.update(-x)
        assert detector.statistic == mirror.statistic


@settings(max_examples=60, deadline=None)
@given(
    stream=arrays(np.float64, st.integers(1, 80), elements=st.integers(-50, 50).map(float)),
    shift=st.integers(-100, 100),
    scale=st.sampled_from([0.25, 2.0, 1024.0]),
)
def test_the_standardised_alarm_does_not_depend_on_units(stream, shift, scale):
    plain = PageHinkley(0.5, 5.0, min_instances=4, standardise=True, deviation_floor=1e-6)
    other = PageHinkley(0.5, 5.0, min_instances=4, standardise=True, deviation_floor=1e-6 * scale)
    for x in stream:
        plain.update(x)
        other.update(scale * (x + shift))
        assert other.statistic == np.float64(plain.statistic) or abs(other.statistic - plain.statistic) < 1e-6


@settings(max_examples=60, deadline=None)
@given(stream=arrays(np.float64, st.integers(1, 60), elements=values))
def test_the_raw_statistic_is_the_sum_above_its_lowest_point(stream):
    """The recursion against the textbook's m_t - min(m)."""
    detector = PageHinkley(0.3, 1e300)
    means = np.cumsum(stream) / np.arange(1, stream.size + 1)
    sums = np.cumsum(stream - means - 0.3)
    # The sum starts from 0 before the first value.
    lowest = np.minimum.accumulate(np.minimum(sums, 0.0))
    for x, expected in zip(stream, sums - lowest, strict=True):
        detector.update(x)
        assert abs(detector.statistic - expected) <= 1e-9 * max(1.0, float(np.abs(stream).sum()))


@settings(max_examples=80, deadline=None)
@given(data=st.data(), size=st.integers(1, 5), k=st.sampled_from([0.0, 0.5]), h=st.sampled_from([1.0, 8.0]))
def test_a_cusum_bank_is_as_many_single_charts_to_the_last_bit(data, size, k, h):
    bank = CusumBank(size, k, h, burn_in=3)
    singles = [Cusum(k, h, burn_in=3) for _ in range(size)]
    for _ in range(data.draw(st.integers(1, 30), label="cycles")):
        x = data.draw(arrays(np.float64, size, elements=st.one_of(values, st.just(np.nan))), label="x")
        alarms = bank.update(x)
        for i, (single, value) in enumerate(zip(singles, x, strict=True)):
            if np.isnan(value):
                assert not alarms[i]
            else:
                assert alarms[i] == single.update(value)
            assert bank.statistic[i] == single.statistic


@settings(max_examples=40, deadline=None)
@given(stream=arrays(np.float64, st.integers(1, 300), elements=st.floats(0.0, 1.0, width=32)))
def test_adwins_window_is_a_suffix_of_the_stream(stream):
    detector = Adwin(delta=0.3, min_window_length=2, grace_period=4)
    for n, x in enumerate(stream, start=1):
        before = detector.width
        cut = detector.update(x)
        assert cut == (detector.width < before + 1)
        window = stream[n - detector.width : n]
        assert abs(detector.mean - window.mean()) < 1e-9
        assert abs(detector.variance - window.var()) < 1e-9


@settings(max_examples=80, deadline=None)
@given(
    n0=st.integers(2, 10_000),
    n1=st.integers(1, 10_000),
    delta=st.floats(1e-9, 0.99),
    variance=st.floats(0.0, 0.25),
)
def test_adwins_bound_is_symmetric_and_falls_with_delta(n0, n1, delta, variance):
    for form, given_variance in (("hoeffding", None), ("variance", variance)):
        bound = adwin_epsilon(n0, n1, delta, form, given_variance)
        assert bound > 0.0
        assert abs(bound - adwin_epsilon(n1, n0, delta, form, given_variance)) <= 1e-12 * bound
        assert adwin_epsilon(n0, n1, delta / 2, form, given_variance) > bound

"""Many windows side by side: each does what one by itself does, and goes on after a pause."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.errors import EstimatorInputError
from eguard.estimators import Adwin, AdwinBank


def streams(seed, ticks=400, size=24):
    """Two thirds stay as they are, one third changes in the middle; one value in twenty is missing."""
    rng = np.random.default_rng(seed)
    values = rng.beta(2, 18, (ticks, size))
    values[ticks // 2 :, ::3] = rng.beta(6, 14, values[ticks // 2 :, ::3].shape)
    values[rng.random(values.shape) < 0.05] = np.nan
    return values


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 6))
def test_each_window_is_that_of_a_stream_by_itself(seed, max_buckets, least):
    values = streams(seed, ticks=150, size=9)
    bank = AdwinBank(9, max_buckets=max_buckets, min_window_length=least)
    single = [Adwin(max_buckets=max_buckets, min_window_length=least) for _ in range(9)]
    for row in values:
        cut = [not np.isnan(value) and window.update(value) for window, value in zip(single, row, strict=True)]
        assert bank.update(row).tolist() == cut
    assert bank.width.tolist() == [window.width for window in single]
    assert bank.mean == pytest.approx([window.mean for window in single], abs=1e-12)


def test_only_the_streams_that_change_are_cut():
    bank = AdwinBank(24)
    cut = np.array([bank.update(row) for row in streams(5)])
    assert cut[:200].sum() == 0
    assert np.flatnonzero(cut.any(axis=0)).tolist() == list(range(0, 24, 3))


def test_a_restored_bank_goes_on_as_if_there_had_been_no_pause():
    straight, paused = AdwinBank(24), AdwinBank(24)
    for row in streams(7):
        before = paused.state()
        paused = AdwinBank(24)
        paused.restore(before)
        assert paused.update(row).tolist() == straight.update(row).tolist()
    assert np.array_equal(paused.state(), straight.state())


def test_a_single_window_is_restored_as_well():
    straight, paused = Adwin(), Adwin()
    for value in np.nan_to_num(streams(8)[:, 0], nan=0.1).tolist():
        before = paused.state()
        paused = Adwin()
        paused.restore(before)
        assert paused.update(value) == straight.update(value)
    assert (paused.state(), paused.width) == (straight.state(), straight.width)


@pytest.mark.parametrize("rows", [[], [[1.0]], [[0.0] * 12]])
def test_a_single_window_refuses_what_is_no_state(rows):
    with pytest.raises(EstimatorInputError, match="state"):
        Adwin().restore((1, 0.0, 0.0, rows))


@pytest.mark.parametrize("named", [{"size": 0}, {"max_buckets": 0}, {"min_window_length": 0}, {"grace_period": 1}])
def test_parameters_out_of_range_are_refused(named):
    with pytest.raises(EstimatorInputError, match=next(iter(named))):
        AdwinBank(**{"size": 2, **named})


def test_what_does_not_fit_the_bank_is_refused():
    bank = AdwinBank(2)
    for values in ([1.0], [0.5, np.inf]):
        with pytest.raises(EstimatorInputError, match="x"):
            bank.update(values)
    for state in (np.zeros((3, 15)), np.zeros((2, 2)), np.zeros((2, 14))):
        with pytest.raises(EstimatorInputError, match="state"):
            bank.restore(state)

"""The bank's addressing, state and errors; its arithmetic is held to the single form in tests/properties."""

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators.page_hinkley_bank import PageHinkleyBank


def raw_bank(size, **parameters):
    return PageHinkleyBank(
        size, **({"delta": 0.1, "threshold": 5.0, "min_instances": 1, "standardise": False} | parameters)
    )


def test_the_statistic_follows_the_printed_trace():
    bank = raw_bank(1, threshold=100.0)
    seen = []
    for x in (1, 1, 1, 1, 5, 5, 5):
        bank.update([0], [x])
        seen.append(bank.statistic[0])
    assert seen == pytest.approx([0, 0, 0, 0, 3.1, 5.666666667, 7.852380952], abs=1e-9)


def test_only_the_named_streams_advance():
    bank = raw_bank(4)
    bank.update([3, 1], [7.0, 8.0])
    assert bank.count.tolist() == [0, 1, 0, 1]
    assert bank.state[1].tolist() == [0.0, 8.0, 0.0, 7.0]


def test_a_slice_names_consecutive_streams():
    bank, listed = raw_bank(4), raw_bank(4)
    for x in ([1.0, 2.0], [9.0, 1.0]):
        bank.update(slice(1, 3), x)
        listed.update([1, 2], x)
    assert np.array_equal(bank.state, listed.state)


def test_a_slot_named_twice_takes_its_values_in_order():
    bank, one_by_one = raw_bank(3), raw_bank(3)
    alarms = bank.update([2, 0, 2, 2, 0], [1.0, 1.0, 1.0, 9.0, 4.0])
    expected = [
        bool(one_by_one.update([slot], [x])[0]) for slot, x in ((2, 1.0), (0, 1.0), (2, 1.0), (2, 9.0), (0, 4.0))
    ]
    assert np.array_equal(bank.state, one_by_one.state)
    assert alarms.tolist() == expected


def test_an_alarmed_stream_restarts_at_its_next_value_even_after_calls_without_it():
    bank = raw_bank(2)
    for x in (1, 1, 1, 1, 5):
        bank.update([0], [x])
    assert bank.update([0], [5]).tolist() == [True]
    bank.update([1], [3])
    bank.update([1], [3])
    assert bank.statistic[0] == pytest.approx(5.666666667)
    assert bank.update([0], [5]).tolist() == [False]
    assert bank.count.tolist() == [1, 2]


def test_reset_forgets_the_named_streams_only():
    bank = PageHinkleyBank(3, min_instances=2)
    for x in (1.0, 2.0, 3.0):
        bank.update(slice(None), [x] * 3)
    bank.reset([1])
    assert bank.count.tolist() == [3, 0, 3]
    # The restarted stream burns in again: a jump does not count.
    bank.update(slice(None), [100.0] * 3)
    assert bank.statistic.tolist() == [pytest.approx(3.5 + 2.5), 0.0, pytest.approx(3.5 + 2.5)]


def test_a_restored_state_continues_where_it_was_taken():
    rng = np.random.default_rng(0)
    stream = rng.gamma(2.0, size=(200, 5))
    stream[120:] += 5.0
    bank = PageHinkleyBank(5, min_instances=10)
    for x in stream[:123]:
        bank.update(slice(None), x)
    other = PageHinkleyBank(5, min_instances=10)
    other.restore(bank.state)
    for x in stream[123:]:
        assert bank.update(slice(None), x).tolist() == other.update(slice(None), x).tolist()
    assert np.array_equal(bank.state, other.state)


def test_an_empty_tick_changes_nothing():
    bank = raw_bank(2)
    assert bank.update([], []).tolist() == []
    assert not bank.state.any()


def test_the_default_bank_finds_a_rise_and_stays_silent_on_the_rest():
    rng = np.random.default_rng(3)
    stream = rng.gamma(2.0, 0.01, size=(400, 50))
    stream[200:, 7] += 0.05
    bank = PageHinkleyBank(50)
    alarmed = np.zeros(50, dtype=bool)
    for x in stream:
        alarmed |= bank.update(slice(None), x)
    assert np.flatnonzero(alarmed).tolist() == [7]


def test_a_bank_needs_a_size():
    with pytest.raises(EstimatorInputError, match="size"):
        PageHinkleyBank(0)


@pytest.mark.parametrize(
    ("argument", "slots", "x"),
    [
        ("slots", [0, 3], [1.0, 1.0]),
        ("slots", [-1], [1.0]),
        ("slots", [0.5], [1.0]),
        ("slots", [[0]], [1.0]),
        ("x", [0, 1], [1.0]),
        ("x", slice(None), [1.0]),
        ("x", [0], [float("nan")]),
    ],
)
def test_slots_and_values_that_do_not_fit_are_refused(argument, slots, x):
    bank = raw_bank(3)
    with pytest.raises(EstimatorInputError) as caught:
        bank.update(slots, x)
    assert caught.value.argument == argument
    assert not bank.state.any()


def test_a_state_of_another_size_is_refused():
    with pytest.raises(EstimatorInputError, match="state"):
        raw_bank(3).restore(raw_bank(2).state)


def test_a_bank_that_grows_goes_on_as_one_that_was_large_from_the_start():
    rng = np.random.default_rng(5)
    values = rng.gamma(2.0, size=(400, 6)) + np.where(np.arange(400)[:, None] > 200, 3.0, 0.0)
    small, large = PageHinkleyBank(3, min_instances=20), PageHinkleyBank(6, min_instances=20)
    slots = np.arange(6)
    for turn, row in enumerate(values):
        if turn == 150:
            small.grow(6)
        used = slots[:3] if turn < 150 else slots
        assert small.update(used, row[used]).tolist() == large.update(used, row[used]).tolist()
    assert np.array_equal(small.state, large.state)
    with pytest.raises(EstimatorInputError, match="at least 6"):
        small.grow(5)

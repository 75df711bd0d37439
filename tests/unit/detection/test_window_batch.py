"""Cutting a batch at the ends of windows."""

import numpy as np

from eguard.detection.window_batch import KeyedEvents, SortedBatch


def cut(slots, classes, filled, window_events=3):
    n = len(slots)
    nothing = np.zeros(n, dtype=np.bool_)
    events = KeyedEvents(
        np.array(slots, dtype=np.intp), np.array(classes, dtype=np.int8), np.arange(n, dtype=float),
        np.zeros(n, dtype=np.int64), nothing, nothing,
    )  # fmt: skip
    return SortedBatch(events, np.array(filled, dtype=np.int64), window_events)


def test_events_are_grouped_by_slot_in_order_of_delivery():
    batch = cut([1, 0, 1, 0], [0, 0, 0, 0], [0, 0])
    assert batch.order.tolist() == [1, 3, 0, 2]
    assert batch.within.tolist() == [0, 1, 0, 1]


def test_positions_go_on_from_what_is_in_the_open_window():
    batch = cut([0, 0, 0, 0, 0], [2] * 5, [2])
    assert batch.within.tolist() == [2, 0, 1, 2, 0]
    assert batch.turn.tolist() == [0, 1, 1, 1, 2]
    assert batch.is_closing.tolist() == [True, False, False, True, False]


def test_events_that_are_not_counted_take_no_place_and_close_nothing():
    batch = cut([0, 0, 0, 0, 0], [1, -1, 1, -1, 1], [0])
    assert batch.turn.tolist() == [0, 0, 0, 0, 0]
    assert batch.is_closing.tolist() == [False, False, False, False, True]
    full = cut([0, 0], [-1, 1], [2])
    assert full.is_closing.tolist() == [False, True]


def test_an_event_after_the_end_belongs_to_the_next_window():
    batch = cut([0, 0, 0, 0], [1, 1, 1, -1], [0])
    assert batch.turn.tolist() == [0, 0, 0, 1]

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.events import UNCOUNTED, Event, EventBatch, EventClass, batched

EVENTS = st.lists(
    st.builds(
        Event,
        time_unix=st.floats(0, 2e9),
        host_id=st.sampled_from(["a", "b"]),
        event_class=st.sampled_from([UNCOUNTED, *EventClass]).map(int),
        comm=st.text(max_size=5),
        pid=st.integers(0, 2**40),
        is_elevated=st.booleans(),
        destination_port=st.integers(0, 65535),
        fields=st.none() | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    ),
    max_size=12,
)


@given(EVENTS)
def test_columns_and_rows_are_the_same_events(events):
    assert list(EventBatch.from_events(events).rows()) == events


@given(EVENTS, st.integers(1, 5))
def test_cutting_and_joining_changes_nothing(events, size):
    batch = EventBatch.from_events(events)
    pieces = list(batch.chunks(size))
    assert all(len(piece) <= size for piece in pieces)
    assert list(EventBatch.concatenate(pieces).rows()) == events
    assert [row for piece in batched(iter(events), size) for row in piece.rows()] == events


@given(EVENTS)
def test_sorting_by_time_is_stable(events):
    expected = sorted(events, key=lambda event: event.time_unix)
    assert list(EventBatch.from_events(events).sorted_by_time().rows()) == expected


def test_take_keeps_the_asked_order():
    batch = EventBatch(time_unix=[1.0, 2.0, 3.0], comm=["a", "b", "c"])
    taken = batch.take(np.array([2, 0]))
    assert taken.comm == ["c", "a"]
    assert taken.time_unix.tolist() == [3.0, 1.0]


def test_wrong_columns_are_refused():
    with pytest.raises(ValueError, match="no such column: colour"):
        EventBatch(time_unix=[1.0], colour=["red"])
    with pytest.raises(ValueError, match="column comm has 2 rows"):
        EventBatch(time_unix=[1.0], comm=["a", "b"])

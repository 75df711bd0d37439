"""Answers of shards put together: places, ranks, and the order in which one process numbers changes."""

import numpy as np

from eguard.agent.shards.merging import latest_before, merge_hits, merge_windows, number_changes
from eguard.agent.shards.messages import Found
from eguard.baseline.profile import ProfileTable
from eguard.detection.window_batch import ClosedWindow
from eguard.detection.window_test import WindowLevel, WindowScore
from eguard.events import EventBatch, EventClass


def window(slot, index, serial=1, **changes):
    facts = {"is_held": False, "drift_alarm": False, "rate_alarm": False, "recent_alarms": ()} | changes
    score = WindowScore(WindowLevel.NONE, 0.0, (0.125,) * 8, 0, 1.0)
    return ClosedWindow(f"{slot}.{serial}", index, slot, 0.0, 1.0, (16,) * 8, (0,) * 8, score, **facts)


def found(n, closed=(), closed_index=None, serials=None, **changes):
    facts = {
        "has_indicator": np.zeros(n, dtype=np.bool_),
        "signature_count": np.zeros(n, dtype=np.int64),
        "closed_index": np.full(n, -1) if closed_index is None else np.array(closed_index),
        "serials": np.ones(n, dtype=np.int64) if serials is None else np.array(serials),
    }
    columns = {name: column.tobytes() for name, column in facts.items()}
    return Found(1, 0, 0, 0, 0, **({"rules": {}, "enrichment": {}, "closed": list(closed)} | columns | changes))


def test_hits_stand_where_their_events_stood():
    batch = EventBatch(time_unix=np.zeros(5), event_class=[0, EventClass.ALERT, 0, 0, 0])
    one = found(2, has_indicator=np.array([False, True]).tobytes(), rules={1: (3, 4)})
    two = found(3, signature_count=np.array([0, 0, 9]).tobytes(), rules={0: (1,)}, enrichment={2: (5,)})
    hits = merge_hits(batch, [(np.array([1, 3]), one), (np.array([0, 2, 4]), two)])
    assert hits.has_indicator.tolist() == [False, False, False, True, False]
    assert hits.signature_count.tolist() == [0, 0, 0, 0, 9]
    assert hits.is_alert.tolist() == [False, True, False, False, False]
    assert hits.has_rule.tolist() == [True, False, False, True, False]
    assert list(hits.rules.items()) == [(0, (1,)), (3, (3, 4))]
    assert hits.enrichment == {4: (5,)}


def test_windows_are_ranked_by_their_closing_events():
    one = found(3, [window(7, 1)], [-1, 0, 0], [1, 1, 2])
    two = found(3, [window(2, 0), window(4, 2)], [0, 0, 1], [5, 6, 7])
    parts = [(np.array([0, 3, 5]), one), (np.array([1, 2, 4]), two)]
    closed, closed_index, serials = merge_windows(7, parts)
    assert [(each.slot, each.index) for each in closed] == [(2, 1), (7, 3), (4, 4)]
    assert closed_index.tolist() == [-1, 0, 0, 1, 2, 1, -1]
    assert serials.tolist() == [1, 5, 6, 1, 7, 2, 0]


def test_nothing_merges_to_nothing():
    closed, closed_index, serials = merge_windows(0, [])
    assert (closed, closed_index.tolist(), serials.tolist()) == ([], [], [])
    hits = merge_hits(EventBatch(), [])
    assert (len(hits.has_rule), hits.rules) == (0, {})


def test_changes_are_numbered_in_rounds_with_relearning_first():
    table = ProfileTable(8)
    table.slots_for([(f"k{number}", "p") for number in range(5)], np.zeros(5))
    closed = [
        window(3, 0),
        window(4, 1, archived=(1,) * 8, is_held=True),
        window(1, 2, archived=(1,) * 8),
        window(3, 3, serial=2),
        window(0, 4, is_held=True),
    ]
    number_changes(closed, table)
    # First round: 1 anew, 4 anew, then 1 and 3 together; second round: 3.
    assert table.sequence == 4
    assert table.seq[:5].tolist() == [0, 3, 0, 4, 2]
    assert table.dirty_since[:5].tolist() == [0, 1, 0, 3, 2]


def test_the_window_before_is_the_one_before_the_batch():
    earlier = window(3, 0)
    assert latest_before([window(3, 1, 2), window(3, 2, 3), window(5, 3)], {3: earlier}) == {3: earlier, 5: None}

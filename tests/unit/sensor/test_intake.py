from eguard.events import BATCH_EVENTS, UNCOUNTED, Event, EventClass
from eguard.sensor.counters import SensorCounters
from eguard.sensor.intake import EventIntake


def _event(time_unix, event_class):
    return Event(time_unix=time_unix, host_id="h", event_class=event_class)


def test_batches_are_bounded_and_keep_the_order():
    intake = EventIntake()
    for number in range(BATCH_EVENTS + 10):
        intake.add(_event(float(number), EventClass.PROCESS_EXEC))
    first, second = intake.take(), intake.take()
    assert (len(first), len(second), len(intake)) == (BATCH_EVENTS, 10, 0)
    assert second.time_unix.tolist() == [float(BATCH_EVENTS + number) for number in range(10)]
    assert intake.counters.received[EventClass.PROCESS_EXEC] == BATCH_EVENTS + 10


def test_a_cap_thins_out_its_class_alone_and_counts_what_it_left_out():
    intake = EventIntake(caps={EventClass.FILE_OPEN: 3})
    for tenth in range(20):
        intake.add(_event(100 + tenth / 10, EventClass.FILE_OPEN))
        intake.add(_event(100 + tenth / 10, EventClass.PROCESS_EXEC))
    intake.take()
    received, sampled = intake.counters.received, intake.counters.sampled
    assert (received[EventClass.FILE_OPEN], sampled[EventClass.FILE_OPEN]) == (6, 14)
    assert (received[EventClass.PROCESS_EXEC], sampled.sum()) == (20, 14)


def test_the_lag_is_taken_at_the_hand_over_and_only_where_the_time_of_the_event_is_known(monkeypatch):
    intake = EventIntake()
    intake.add(_event(1.0, EventClass.PROCESS_EXEC), 1_000_000_000)
    intake.add(_event(2.0, EventClass.PROCESS_EXEC), 2_500_000_000)
    intake.add(_event(3.0, EventClass.DNS_QUERY))
    monkeypatch.setattr("time.monotonic_ns", lambda: 3_000_000_000)
    assert len(intake.take()) == 3
    assert intake.counters.to_dict()["lag"] == {"events": 2, "mean_seconds": 1.25, "max_seconds": 2.0}
    assert intake.counters.lag.read() == (2, 1.25, 2.0)
    assert intake.counters.lag.peek() == (0, 0.0, 0.0)


def test_uncounted_events_have_a_slot_of_their_own():
    intake = EventIntake()
    intake.add(_event(1.0, UNCOUNTED))
    intake.take()
    assert intake.counters.to_dict() == {
        "received": {"other": 1},
        "lost": {},
        "sampled": {},
        "unresolved": 0,
        "lag": {"events": 0, "mean_seconds": 0.0, "max_seconds": 0.0},
    }
    assert SensorCounters().to_dict()["received"] == {}

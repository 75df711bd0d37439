"""Messages leave the outbox at least once, in order, and are tried for a week."""

import threading
import time
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import NotificationError
from eguard.fleet.database import Database
from eguard.fleet.tables import maintenance_run, notification_delivery
from eguard.server.metrics import Metrics
from eguard.server.services.delivery import GIVE_UP_SECONDS, Delivery
from eguard.server.services.notifications import notify
from eguard.server.services.outbox import outbox
from eguard.server.services.scheduler import Scheduler
from eguard.server.tasks import TASKS

NOW = 1_772_000_000.0


class Killed(BaseException):
    """The process ends here."""


class Box:
    """A sink that keeps what it was sent, after failing as it is told to."""

    address = "test://box"

    def __init__(self, name="webhook", *failures):
        self.name = name
        self.got = []
        self.tries = 0
        self.failures = list(failures)

    def send(self, message, _now):
        self.tries += 1
        failure = self.failures.pop(0) if self.failures else None
        if failure == "killed after":
            self.got.append(message.notification_id)
            raise Killed
        if failure is not None:
            raise failure
        self.got.append(message.notification_id)


def down(**named):
    return NotificationError("nobody there", **named)


def no_progress(_label, _done, _total):
    """Go on."""


@pytest.fixture
def clock():
    return SimulatedClock(NOW)


def raise_one(database, clock, title="t", **detail):
    with database.write() as connection:
        return notify(connection, kind="alert", severity="warning", title=title, detail=detail, now=clock.now())


def states(database):
    return {
        (message["title"], each["sink"]): (each["status"], each["attempts"], each["last_error"])
        for message in outbox(database, 100)
        for each in message["deliveries"]
    }


def test_a_message_goes_to_every_sink_once(fleet, clock):
    sinks = [Box("webhook"), Box("syslog")]
    delivery = Delivery(fleet, clock, sinks)
    assert not delivery.is_wanted()
    one = raise_one(fleet, clock)
    assert delivery.is_wanted()
    assert delivery.deliver(no_progress) == {
        "dispatched": 1,
        "given_up": 0,
        "sinks": {"webhook": {"delivered": 1, "failed": 0}, "syslog": {"delivered": 1, "failed": 0}},
    }
    assert not delivery.is_wanted()
    delivery.deliver(no_progress)
    assert [sink.got for sink in sinks] == [[one], [one]]
    assert states(fleet) == {("t", "webhook"): ("delivered", 1, None), ("t", "syslog"): ("delivered", 1, None)}


def test_without_a_sink_a_message_is_not_kept_for_later(fleet, clock):
    delivery = Delivery(fleet, clock, [])
    raise_one(fleet, clock)
    delivery.deliver(no_progress)
    assert not delivery.is_wanted()
    (message,) = outbox(fleet, 10)
    assert message["dispatched_at_unix"] == NOW
    assert message["deliveries"] == []


def test_failures_are_tried_again_later_and_later_until_the_receiver_is_back(fleet, clock):
    box = Box("webhook", *[down()] * 6)
    delivery = Delivery(fleet, clock, [box])
    one = raise_one(fleet, clock)
    waits = []
    while not box.got:
        assert delivery.is_wanted()
        delivery.deliver(no_progress)
        if not box.got:
            with fleet.read() as connection:
                due = connection.execute(sa.select(notification_delivery.c.next_attempt_at)).scalar_one()
            waits.append(due - clock.now())
            assert not delivery.is_wanted()
            clock.advance_to(due + 1e-3)
    assert box.got == [one]
    for wait, middle in zip(waits, (5.0, 10.0, 20.0, 40.0, 80.0, 160.0), strict=True):
        assert 0.8 * middle - 1e-3 <= wait <= 1.2 * middle + 1e-3
    assert states(fleet) == {("t", "webhook"): ("delivered", 7, None)}


def test_a_sink_that_is_down_is_asked_once_for_all_and_order_is_kept(fleet, clock):
    box, other = Box("webhook", down()), Box("syslog")
    delivery = Delivery(fleet, clock, [box, other])
    raised = []
    for number in range(4):
        clock.advance_to(NOW + number)
        raised.append(raise_one(fleet, clock, title=f"m{number}"))
    delivery.deliver(no_progress)
    assert (box.tries, box.got) == (1, [])
    assert other.got == raised  # it does not wait for the first
    assert not delivery.is_wanted()
    clock.advance_to(NOW + 60.0)
    delivery.deliver(no_progress)
    assert box.got == raised
    assert {state[1] for (_, sink), state in states(fleet).items() if sink == "webhook"} == {1, 2}


def test_a_message_that_the_receiver_refuses_does_not_hold_up_the_others(fleet, clock):
    box = Box("webhook", down(is_about_message=True))
    delivery = Delivery(fleet, clock, [box])
    raise_one(fleet, clock, title="odd")
    clock.advance_to(NOW + 1.0)
    second = raise_one(fleet, clock, title="fine")
    delivery.deliver(no_progress)
    assert box.got == [second]
    assert states(fleet)["odd", "webhook"] == ("waiting", 1, "nobody there")


def test_a_receivers_wish_to_wait_is_kept(fleet, clock):
    delivery = Delivery(fleet, clock, [Box("webhook", down(retry_seconds=600.0))])
    raise_one(fleet, clock)
    delivery.deliver(no_progress)
    clock.advance_to(NOW + 599.0)
    assert not delivery.is_wanted()
    clock.advance_to(NOW + 601.0)
    assert delivery.is_wanted()


def test_killed_between_sending_and_marking_it_is_sent_again_with_the_same_id(fleet, clock):
    box = Box("webhook", "killed after")
    one = raise_one(fleet, clock)
    with pytest.raises(Killed):
        Delivery(fleet, clock, [box]).deliver(no_progress)
    assert states(fleet) == {("t", "webhook"): ("waiting", 0, None)}
    Delivery(fleet, clock, [box]).deliver(no_progress)
    assert box.got == [one, one]


def test_after_a_week_it_is_given_up_and_counted_even_if_the_sink_is_gone(fleet, clock):
    counted = []
    delivery = Delivery(
        fleet, clock, [Box("webhook", *[down()] * 9), Box("syslog", down())], lambda *each: counted.append(each)
    )
    raise_one(fleet, clock)
    delivery.deliver(no_progress)
    clock.advance_to(NOW + GIVE_UP_SECONDS - 1.0)
    without_syslog = Delivery(fleet, clock, delivery.sinks[:1], lambda *each: counted.append(each))
    assert without_syslog.deliver(no_progress)["given_up"] == 0
    clock.advance_to(NOW + GIVE_UP_SECONDS + 7200.0)
    assert without_syslog.is_wanted()
    assert without_syslog.deliver(no_progress)["given_up"] == 2
    assert not without_syslog.is_wanted()
    assert sorted(each for each in counted if each[1] == "given_up") == [
        ("syslog", "given_up"),
        ("webhook", "given_up"),
    ]
    assert {state[0] for state in states(fleet).values()} == {"given_up"}


def test_two_servers_deliver_each_message_once_between_them(fleet):
    clock = SimulatedClock(NOW)
    box, metrics = Box(), Metrics(fleet, clock)
    slow = threading.Event()
    sent = box.send
    box.send = lambda *given: (slow.wait(0.002), sent(*given))
    task = next(each for each in TASKS if each.task_id == "notify")
    second = Database(fleet._url)
    servers = []
    for database in (fleet, second):
        scheduler = Scheduler(database, [task], clock, poll_seconds=0.005)
        scheduler.start(SimpleNamespace(metrics=metrics, delivery=Delivery(database, clock, [box])))
        servers.append(scheduler)
    raised = []
    try:
        for number in range(30):
            clock.advance_to(NOW + 2.0 * number)
            raised.append(raise_one(fleet, clock))
            time.sleep(0.01)
        deadline = time.monotonic() + 20.0
        while len(box.got) < 30 and time.monotonic() < deadline:
            clock.advance_to(clock.now() + 1.0)
            time.sleep(0.01)
    finally:
        for scheduler in servers:
            scheduler.stop()
        second.dispose()
    assert sorted(box.got) == sorted(raised)
    with fleet.read() as connection:
        runs = connection.execute(sa.select(sa.func.count()).select_from(maintenance_run)).scalar()
    assert runs <= 2  # of runs that went well only the latest is kept

"""Duties on a thread: intervals with jitter, back-off by kind of failure, and none that stops another."""

import threading
import time

import pytest
import structlog

from eguard.agent.control.duties import DutyThread
from eguard.errors import AlertBufferError, ServerRefusalError, ServerUnavailableError


@pytest.fixture
def thread():
    made = DutyThread("duties", "agent-1")
    yield made
    made.stop()
    assert made.join(2.0)


def wait_until(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def raising(error, done):
    def work():
        done.append(time.monotonic())
        raise error

    return work


@pytest.mark.parametrize("error", [
    ServerUnavailableError("gone"), ServerRefusalError(403, "no", "no"), OSError(5, "disk"), ValueError("odd"),
    KeyError("odd"), RecursionError("deep"), AlertBufferError("full", reason="disk_full"),
])  # fmt: skip
def test_a_duty_that_fails_stops_no_other(error, thread):
    failed, done = [], []
    thread.every("bad", 0.01, raising(error, failed), first_seconds=0.0)
    thread.every("good", 0.01, lambda: done.append(1), first_seconds=0.0)
    thread.start()
    wait_until(lambda: len(done) > 5 and failed)
    described = thread.describe()
    assert described["bad"]["failures_total"] >= 1
    assert described["bad"]["last_error"]
    code = "no" if isinstance(error, ServerRefusalError) else getattr(error, "code", type(error).__name__)
    assert described["bad"]["last_error_code"] == code
    assert described["bad"]["last_success_unix"] is None
    assert described["good"]["last_error"] == described["good"]["last_error_code"] == ""


def test_trouble_backs_off_and_a_refusal_waits_for_the_regular_time(thread):
    thread.every("unavailable", 0.01, raising(ServerUnavailableError("x"), trouble := []), first_seconds=0.0)
    thread.every("refused", 0.2, raising(ServerRefusalError(409, "x", "x"), refused := []), first_seconds=0.0)
    thread.start()
    time.sleep(0.75)
    assert len(trouble) == 1  # the next comes after 0.8 to 1.2 s, then 2, then 4
    assert 2 <= len(refused) <= 5


def test_a_server_that_asks_for_time_is_given_it(thread):
    busy = ServerUnavailableError("busy", retry_after_seconds=60.0)
    thread.every("busy", 0.01, raising(busy, []), first_seconds=0.0)
    thread.run_once("busy")
    assert thread._duties["busy"].due_at - time.monotonic() >= 59.9


@pytest.mark.parametrize(("even_failing", "times"), [(False, 1), (True, 2)])
def test_waking_does_not_cut_a_back_off_short_unless_asked_to(even_failing, times, thread):
    thread.every("bad", 100.0, raising(ServerUnavailableError("x"), done := []), first_seconds=0.0)
    thread.start()
    wait_until(lambda: thread.describe()["bad"]["failures_total"] == 1 and thread._duties["bad"].is_failing)
    thread.wake("bad", even_failing=even_failing)
    time.sleep(0.2)
    assert len(done) == times


def test_waking_brings_a_duty_forward_and_a_wake_up_during_its_work_counts(thread):
    done = []

    def work():
        done.append(1)
        if len(done) == 1:
            thread.wake("late")

    thread.every("late", 100.0, work, first_seconds=1000.0)
    thread.start()
    time.sleep(0.05)
    assert not done
    thread.wake("late")
    wait_until(lambda: len(done) == 2)


def test_a_duty_may_ask_to_come_again_soon(thread):
    done = []
    thread.every("more", 100.0, lambda: done.append(1) or (0.0 if len(done) < 4 else None), first_seconds=0.0)
    thread.start()
    wait_until(lambda: len(done) == 4)
    time.sleep(0.1)
    assert len(done) == 4


def test_a_spell_of_trouble_is_logged_once_and_its_end_too(thread):
    fails = iter([True, True, True, False, False])

    def work():
        if next(fails):
            raise ServerRefusalError(403, "no", "not now")

    thread.every("duty", 1.0, work)
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            thread.run_once("duty")
    assert [line["event"] for line in logs] == ["control duty failed", "control duty works again"]


def test_every_interval_has_jitter_and_agents_differ():
    def first_times(agent):
        thread = DutyThread("duties", agent)
        thread.every("a", 100.0, lambda: None)
        now = time.monotonic()
        return thread._duties["a"].due_at - now, [round(thread._jittered(100.0), 6) for _ in range(50)]

    firsts, intervals = zip(*(first_times(f"agent-{n}") for n in range(200)), strict=True)
    assert 0.0 <= min(firsts) < 10.0
    assert 90.0 < max(firsts) <= 100.0
    assert all(90.0 <= each <= 110.0 for row in intervals for each in row)
    assert len({tuple(row) for row in intervals}) == 200
    assert len(set(intervals[0])) > 40


def test_stopping_does_not_wait_for_the_next_time():
    thread = DutyThread("duties", "a")
    thread.every("late", 1000.0, lambda: None)
    thread.start()
    thread.stop()
    assert thread.join(2.0)
    assert threading.active_count() >= 1

"""When tasks are due, in nights of 23 and of 25 hours too."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from eguard.errors import ConfigError
from eguard.server.services.schedules import Every, local_zone, parse_schedule
from eguard.server.tasks import TASKS

BERLIN = ZoneInfo("Europe/Berlin")


def unix(text):
    return datetime.fromisoformat(text).timestamp()


def fires(expression, since, until, zone=BERLIN):
    """Return the times at which a server that looks every minute begins the task."""
    schedule = parse_schedule(expression, zone)
    now, end = unix(since), unix(until)
    due, begun = schedule.next_after(now), []
    while now < end:
        if due <= now:
            begun.append(datetime.fromtimestamp(now, UTC).isoformat())
            due = schedule.next_after(now)
        now += 60.0
    return begun


@pytest.mark.parametrize("expression", ["0 2 * * *", "30 2 * * *"])
def test_a_time_that_the_clock_skips_is_taken_at_the_end_of_the_gap(expression):
    night = fires(expression, "2026-03-28T12:00+01:00", "2026-03-29T12:00+02:00")
    assert night == ["2026-03-29T01:00:00+00:00"]  # 03:00 in Berlin, the first moment after 01:59


@pytest.mark.parametrize(
    ("expression", "first"), [("0 2 * * *", "2026-10-25T00:00:00+00:00"), ("30 2 * * *", "2026-10-25T00:30:00+00:00")]
)
def test_a_time_that_the_clock_shows_twice_is_taken_once(expression, first):
    assert fires(expression, "2026-10-24T12:00+02:00", "2026-10-25T12:00+01:00") == [first]


def test_what_is_asked_within_the_second_showing_lies_ahead():
    now = unix("2026-10-25T02:10+01:00")
    for expression in ("30 2 * * *", "0 2 * * *", "* * * * *", "0 3 * * *"):
        assert parse_schedule(expression, BERLIN).next_after(now) > now
    assert parse_schedule("30 2 * * *", BERLIN).next_after(now) == unix("2026-10-26T02:30+01:00")


def test_lines_by_the_hour_go_on_through_both_nights():
    autumn = fires("0 * * * *", "2026-10-25T00:30+02:00", "2026-10-25T04:30+01:00")
    assert len(autumn) == 5  # 01, 02, 02 again, 03, 04
    spring = fires("0 * * * *", "2026-03-29T00:30+01:00", "2026-03-29T05:30+02:00")
    assert len(spring) == 4  # 01, 03, 04, 05


def test_intervals_know_no_local_time():
    assert parse_schedule("every 6h", BERLIN) == Every(21_600.0)
    assert parse_schedule("every 90s", BERLIN).next_after(unix("2026-10-25T02:59:59+02:00")) == pytest.approx(
        unix("2026-10-25T02:59:59+02:00") + 90.0
    )


@pytest.mark.parametrize("text", ["", "every 0h", "every day", "0 25 * * *", "* * * *", "@daily", "every 6h "])
def test_what_is_no_schedule_is_refused_by_name(text):
    with pytest.raises(ConfigError, match="is no schedule"):
        parse_schedule(text, UTC)


@pytest.mark.parametrize("task", TASKS, ids=[task.task_id for task in TASKS])
def test_every_task_has_a_schedule_and_a_sentence(task):
    assert parse_schedule(task.schedule, BERLIN).next_after(0.0) > 0.0
    assert task.description.endswith(".")


def test_the_machines_zone_has_rules_and_can_be_named(monkeypatch):
    monkeypatch.setenv("TZ", ":Europe/Berlin")
    assert local_zone() == BERLIN
    monkeypatch.setenv("TZ", "Middle/Earth")
    with pytest.raises(ConfigError, match="TZ=Middle/Earth"):
        local_zone()
    monkeypatch.delenv("TZ")
    assert local_zone().utcoffset(datetime(2026, 1, 1)) is not None  # noqa: DTZ001 - that is what is asked

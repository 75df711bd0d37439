import numpy as np
import pytest

from eguard.detection.hour_profile import HourProfile, _hours_lived

HOUR, DAY, WEEK = 3600.0, 86_400.0, 7 * 86_400.0
MONDAY = 4 * DAY  # 1970-01-05 00:00 UTC


def live(profile, days, hours=range(9, 17), start=MONDAY):
    for day in range(days):
        for hour in hours:
            for minute in range(60):
                profile.rarity_at(start + day * DAY + hour * HOUR + minute * 60)


def test_without_history_every_hour_is_average():
    profile = HourProfile()
    assert profile.rarity_at(MONDAY) == 0.5
    assert profile.rarity_at(MONDAY + 59 * 60) == 0.5


def test_first_complete_hour_enters_by_the_formula():
    profile = HourProfile()
    for minute in range(30):
        profile.rarity_at(MONDAY + minute * 60)
    # W = 30 minutes in hour 0, E = 1 hour lived in hour 0, both smoothed over hours 167, 0 and 1.
    minutes, lived = np.zeros(168), np.zeros(168)
    minutes[[167, 0, 1]] = [7.5, 15.0, 7.5]
    lived[[167, 0, 1]] = [0.25, 0.5, 0.25]
    overall = (30 + 1) / (1 + 1)
    day_minutes, day_lived = np.zeros(24), np.zeros(24)
    day_minutes[[23, 0, 1]] = [7.5, 15.0, 7.5]
    day_lived[[23, 0, 1]] = [0.25, 0.5, 0.25]
    rate = (minutes + np.tile((day_minutes + overall) / (day_lived + 1), 7)) / (lived + 1)
    expected = 1 / (1 + 168 * rate[1] / rate.sum())
    assert profile.rarity_at(MONDAY + HOUR) == pytest.approx(expected, abs=1e-12)


def test_office_hours_become_ordinary_and_the_night_rare_within_days():
    profile = HourProfile()
    live(profile, days=4)
    noon = profile.rarity_at(MONDAY + 4 * DAY + 12 * HOUR)
    night = profile.rarity_at(MONDAY + 5 * DAY + 3 * HOUR)
    assert noon < 0.35
    assert night > 0.75


def test_weekends_are_told_from_working_days_after_some_weeks():
    profile = HourProfile()
    for week in range(4):
        live(profile, days=5, start=MONDAY + week * WEEK)
    saturday = profile.rarity_at(MONDAY + 3 * WEEK + 5 * DAY + 12 * HOUR)
    monday = profile.rarity_at(MONDAY + 4 * WEEK + 12 * HOUR)
    assert monday < 0.25
    assert saturday > 0.55


def test_an_hour_counts_minutes_not_alerts():
    calm, flooded = HourProfile(), HourProfile()
    calm.rarity_at(MONDAY)
    for i in range(1000):
        flooded.rarity_at(MONDAY + i * 0.05)
    assert calm.rarity_at(MONDAY + HOUR) == flooded.rarity_at(MONDAY + HOUR)


def test_all_alerts_of_an_hour_get_one_value():
    profile = HourProfile()
    live(profile, days=2)
    values = {profile.rarity_at(MONDAY + 2 * DAY + 9 * HOUR + 60 * minute) for minute in range(60)}
    assert len(values) == 1


def test_a_clock_set_back_starts_the_profile_anew():
    profile = HourProfile()
    live(profile, days=2)
    assert profile.rarity_at(MONDAY) == 0.5


@pytest.mark.parametrize(("first", "now"), [(0, 0), (0, 1), (100, 300), (167, 168 * 3 + 5)])
def test_hours_lived_equal_a_count_one_by_one(first, now):
    expected = np.zeros(168)
    for hour in range(first, now):
        expected[(hour + 72) % 168] += 1
    assert np.array_equal(_hours_lived(first, now), expected)

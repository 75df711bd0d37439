from eguard.detection.sightings import RecentNames, Sightings


def test_recent_names_drop_the_oldest_beyond_the_limit():
    names = RecentNames(2, 300.0)
    assert [names.count("a", 0), names.count("b", 1), names.count("a", 2), names.count("c", 3)] == [1, 2, 2, 2]
    assert names.count("", 301.5) == 2  # a of 2 and c of 3: b was the oldest
    assert names.count("", 302.5) == 1


def test_recent_names_expire_though_another_is_refreshed():
    names = RecentNames(4, 300.0)
    names.count("a", 0)
    names.count("b", 10)
    assert [names.count("a", time) for time in (200, 309, 310, 400)] == [2, 2, 1, 1]


def test_clearing_forgets_names_and_their_expiry():
    names = RecentNames(4, 300.0)
    names.count("a", 1000)
    names.clear()
    assert [names.count("b", 0), names.count("", 299), names.count("", 300)] == [1, 1, 0]


def test_sightings_count_the_minutes_before_the_present_one():
    rule = Sightings()
    counts = []
    for time in (0, 59, 60, 60, 180):
        rule.see(time)
        counts.append(rule.n_minutes)
    assert counts == [0, 0, 1, 1, 2]


def test_sightings_keep_the_silence_before_a_run():
    rule = Sightings()
    silences = []
    for time in (0, 59, 119, 178, 300):
        rule.see(time)
        silences.append(rule.silence_seconds)
    assert silences == [float("inf"), float("inf"), 60, 60, 122]

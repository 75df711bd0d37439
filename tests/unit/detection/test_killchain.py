"""Look-backs over rule matches, by process and by tree."""

from eguard.detection.killchain import MatchHistory


def test_matches_of_a_process_count_up_to_three_within_a_minute():
    history = MatchHistory()
    for time in (0.0, 10.0, 20.0, 30.0):
        history.record("p", "r", time, 1, [])
    assert history.temporal_count("p", 30.0) == 3
    assert history.temporal_count("p", 75.0) == 2  # 20 and 30
    assert history.temporal_count("p", 90.0) == 0
    assert history.temporal_count("q", 30.0) == 0


def test_several_matches_of_one_event_count_singly():
    history = MatchHistory()
    history.record("p", "r", 0.0, 2, [])
    assert history.temporal_count("p", 0.0) == 2
    history.record("p", "r", 1.0, 40, [])
    assert history.temporal_count("p", 1.0) == 3


def test_tactics_are_distinct_and_belong_to_the_tree():
    history = MatchHistory()
    history.record("a", "tree", 0.0, 1, ["discovery"])
    history.record("b", "tree", 100.0, 1, ["discovery", "impact"])
    history.record("c", "other", 100.0, 1, ["exfiltration"])
    assert history.tactics("tree", 100.0) == ("discovery", "impact")
    assert history.tactics("other", 100.0) == ("exfiltration",)


def test_a_tactic_seen_again_lives_on():
    history = MatchHistory()
    history.record("a", "tree", 0.0, 1, ["discovery", "impact"])
    history.record("a", "tree", 3000.0, 1, ["impact"])
    assert history.tactics("tree", 3599.0) == ("discovery", "impact")
    assert history.tactics("tree", 3600.0) == ("impact",)


def test_the_oldest_are_forgotten_beyond_the_capacity():
    history = MatchHistory(capacity=2)
    for name in ("a", "b", "c"):
        history.record(name, name, 0.0, 1, ["impact"])
    assert [history.temporal_count(name, 0.0) for name in "abc"] == [0, 1, 1]
    assert [history.tactics(name, 0.0) for name in "abc"] == [(), ("impact",), ("impact",)]

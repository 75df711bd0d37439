"""Episodes, delays, false alarms and attack-free time, by hand."""

import numpy as np
import pytest

from eguard.errors import ConfigError
from eguard.events import EventBatch
from eguard.mlops.drift_alerts import HOUR_SECONDS, split_networks
from eguard.mlops.drift_onsets import Episode, Outcome, horizons, judge, on_hosts, read_episodes

H = HOUR_SECONDS


def episode(start, end, network="n", steps=("scan",)):
    return Episode(network, "", start * H, end * H, steps)


def outcome(alarms, episodes, *, armed=0.0, end=100.0, horizon=6.0, controls=()):
    return judge(
        [np.array(alarms) * H],
        np.array([armed * H]),
        [episodes],
        controls_unix=[np.array(controls) * H],
        end_unix=end * H,
        blocked=horizons(episodes, horizon),
        horizon_hours=horizon,
    )


def test_steps_within_hours_of_one_another_are_one_episode(tmp_path):
    path = tmp_path / "windows.csv"
    path.write_text(
        "network,step,t_first_unix,t_last_unix,n_alerts\n"
        "n,second,7200,9000,3\nn,first,0,3600,1\nn,third,90000,90001,1\nm,other,7200,7300,1\n"
    )
    episodes, steps = read_episodes(path, 6.0)
    assert [(found.network, found.steps, found.start_unix, found.end_unix) for found in episodes] == [
        ("m", ("other",), 7200.0, 7300.0),
        ("n", ("first", "second"), 0.0, 9000.0),
        ("n", ("third",), 90000.0, 90001.0),
    ]
    assert [step.steps for step in steps] == [("other",), ("first",), ("second",), ("third",)]


def test_no_table_is_no_attack_and_a_wrong_one_is_refused(tmp_path):
    assert read_episodes(tmp_path / "absent.csv", 6.0) == ([], [])
    (tmp_path / "wrong.csv").write_text("network,step\nn,scan\n")
    with pytest.raises(ConfigError, match="no table of attack windows"):
        read_episodes(tmp_path / "wrong.csv", 6.0)


def test_the_first_alarm_from_the_onset_to_the_horizon_is_the_detection():
    found = outcome([10.0, 22.0, 25.0, 40.0], [episode(20.0, 21.0)])
    assert found.delays_hours == (2.0,)
    assert (found.found, found.unarmed, found.false_alarms) == (1, 0, 2)  # 10 and 40; 25 is within the horizon
    assert found.attack_free_hours == pytest.approx(100.0 - 7.0)


def test_an_alarm_at_the_onset_itself_cannot_have_seen_it():
    assert outcome([20.0], [episode(20.0, 21.0)]).found == 0
    assert outcome([20.0], [episode(20.0, 21.0)]).false_alarms == 1
    assert outcome([27.0], [episode(20.0, 21.0)]).found == 1
    assert outcome([27.01], [episode(20.0, 21.0)]).false_alarms == 1


def test_misses_before_the_detector_was_armed_are_counted_apart():
    assert outcome([], [episode(20.0, 21.0)], armed=30.0).unarmed == 1
    assert outcome([], [episode(20.0, 21.0)], armed=10.0).unarmed == 0
    late = outcome([], [episode(20.0, 21.0)], armed=23.0)
    assert late.attack_free_hours == pytest.approx(100.0 - 23.0 - 4.0)


def test_what_alarms_without_the_attack_too_is_found_anyway():
    assert outcome([22.0], [episode(20.0, 21.0)], controls=[26.0]).found_anyway == 1
    assert outcome([22.0], [episode(20.0, 21.0)], controls=[28.0]).found_anyway == 0


def test_overlapping_horizons_are_not_counted_twice():
    both = [episode(20.0, 21.0), episode(25.0, 26.0)]
    assert horizons(both, 6.0) == [(20.0 * H, 32.0 * H)]
    found = outcome([25.5], both)
    assert found.attack_free_hours == pytest.approx(88.0)
    assert found.delays_hours == (5.5, 0.5)


def test_a_detector_that_never_arms_watches_nothing():
    found = outcome([], [], armed=np.inf)
    assert (found.attack_free_hours, found.false_alarms_per_week) == (0.0, np.inf)
    assert found.to_json()["false_alarms_per_week"] is None
    assert found.to_json()["delay_hours"] is None


def test_outcomes_add_up_and_say_what_chance_would_find():
    total = outcome([10.0, 22.0], [episode(20.0, 21.0)]) + outcome([], [episode(20.0, 21.0)])
    assert (total.found, len(total.delays_hours), total.false_alarms) == (1, 2, 1)
    rate_per_hour = 1 / (2 * 93.0)
    assert total.found_by_chance == pytest.approx(2 * (1 - np.exp(-7.0 * rate_per_hour)))
    report = total.to_json()
    assert report["missed"] == 1
    assert report["delay_hours"]["value"] is None  # the median of 2 hours and never
    assert report["delay_of_found_hours"]["value"] == 2.0
    assert report["false_alarms_per_week"]["value"] == pytest.approx(168.0 * rate_per_hour)


def test_nothing_is_the_neutral_outcome():
    one = outcome([10.0], [episode(20.0, 21.0)])
    assert one + Outcome() == one


def test_a_hosts_episode_is_that_of_its_own_alerts():
    rows = [(0.0, "x", ""), (100.0, "x", "scan"), (200.0, "y", "dirb"), (300.0, "x", "scan"), (9_000.0, "y", "scan")]
    times, hosts, labels = zip(*rows, strict=True)
    batch = EventBatch(
        time_unix=np.array(times),
        group=["n"] * 5,
        host_id=list(hosts),
        rule_id=["R"] * 5,
        label=list(labels),
        event_class=[7] * 5,
    )
    (network,) = split_networks(batch, 24)
    wanted = [Episode("n", "", 50.0, 400.0, ("scan", "dirb"))]
    found = on_hosts(network, wanted, np.ones(3, dtype=np.bool_))
    assert [(one.host, one.start_unix, one.end_unix) for one in found] == [("x", 100.0, 300.0), ("y", 200.0, 200.0)]
    assert [one.host for one in on_hosts(network, wanted, network.steps_except(frozenset({"dirb"})))] == ["x"]

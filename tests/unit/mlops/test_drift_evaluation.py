"""Outcomes, choices and reports on two networks whose change is built in."""

import numpy as np
import pytest

from eguard.events import EventBatch
from eguard.mlops.drift_alerts import HOUR_SECONDS, split_networks
from eguard.mlops.drift_detectors import Detector, level
from eguard.mlops.drift_evaluation import Case, Evaluation
from eguard.mlops.drift_onsets import Episode, Outcome
from eguard.mlops.drift_streams import ALL, ATTACKS_REMOVED, NO_FLOODS, SeriesOptions, hourly_bank

H = HOUR_SECONDS
GRID = ({"level_nats": 0.1, "cycles": 1}, {"level_nats": 0.69, "cycles": 1}, {"level_nats": 0.01, "cycles": 1})
LEVEL = Detector("level, pinned", "pinned", GRID, level)


def network(name, *, odd_hour=None):
    """Sixty hours of 40 alerts over rules A and B; at hour 40 as many scans; perhaps one odd, attack-free hour."""
    times, rules, labels = [], [], []
    for hour in range(60):
        for index in range(40):
            times.append(hour * H + 60.0 * index)
            rules.append("odd" if hour == odd_hour else "AB"[index % 2])
            labels.append("")
        if hour == 40:
            times += [hour * H + 60.0 * index + 1.0 for index in range(40)]
            rules += ["scan"] * 40
            labels += ["scan"] * 40
    order = np.argsort(times, kind="stable")
    batch = EventBatch(
        time_unix=np.array(times)[order],
        group=[name] * len(times),
        host_id=[f"{name}/h"] * len(times),
        rule_id=[rules[i] for i in order],
        label=[labels[i] for i in order],
        event_class=[7] * len(times),
    )
    return split_networks(batch, 24)[0]


@pytest.fixture(scope="module")
def evaluation():
    networks = [network("calm"), network("odd", odd_hour=30)]
    steps = [Episode(name, "", 40.0 * H, 40.0 * H + 2_341.0, ("scan",)) for name in ("calm", "odd")]
    bank = hourly_bank(networks, SeriesOptions())
    return Evaluation(networks, bank, steps, steps, detectors=[LEVEL], horizon_hours=6.0)


def outcome(evaluation, setting, name, stream=ALL, scope="network"):
    return evaluation.outcome("level, pinned", setting, (name,), stream, scope)


def test_the_scan_is_found_when_its_hour_ends(evaluation):
    found = outcome(evaluation, 0, "calm")
    assert found.delays_hours == (1.0,)
    assert (found.false_alarms, found.found_anyway) == (0, 0)
    assert found.attack_free_hours == pytest.approx(60 - 24 - 6 - 2_341 / 3_600)


def test_the_odd_hour_is_a_false_alarm_with_and_without_the_attack(evaluation):
    for stream in (ALL, NO_FLOODS, ATTACKS_REMOVED):
        assert outcome(evaluation, 0, "odd", stream).false_alarms == 1
    removed = outcome(evaluation, 0, "odd", ATTACKS_REMOVED)
    assert removed.delays_hours == ()
    assert removed.attack_free_hours == 36.0


def test_hosts_and_single_steps_are_judged_too(evaluation):
    assert outcome(evaluation, 0, "calm", ALL, "host").found == 1
    assert outcome(evaluation, 0, "calm", "scan").found == 1
    assert outcome(evaluation, 0, "calm", "scan", "host") == Outcome()


def test_a_network_chooses_the_most_found_within_its_budget(evaluation):
    assert evaluation.choose(LEVEL, "calm", "network", 2.0) == 0
    assert evaluation.choose(LEVEL, "odd", "network", 2.0) == 1  # every setting that sees the scan sees the odd hour
    assert evaluation.choose(LEVEL, "odd", "network", 100.0) == 0


@pytest.mark.parametrize(
    ("outcomes", "chosen"),
    [
        # One alarm in 168 hours is one a week. None of the first two keeps to half of one: the quieter is taken.
        ([Outcome((1.0,), (7.0,), 0, 0, 4, 168.0), Outcome((np.inf,), (7.0,), 0, 0, 3, 168.0)], 1),
        # Both keep to it: the one that finds more, though it is slower and raises more.
        ([Outcome((1.0, np.inf), (7.0, 7.0), 0, 0, 0, 400.0), Outcome((5.0, 5.0), (7.0, 7.0), 0, 0, 1, 400.0)], 1),
        # Both find it without a false alarm: the faster.
        ([Outcome((4.0,), (7.0,), 0, 0, 0, 168.0), Outcome((2.0,), (7.0,), 0, 0, 0, 168.0)], 1),
        # Alike in everything: the earlier in the grid.
        ([Outcome((2.0,), (7.0,), 0, 0, 0, 168.0), Outcome((2.0,), (7.0,), 0, 0, 0, 168.0)], 0),
        # A setting that was never able to alarm keeps to no budget.
        ([Outcome((np.inf,), (7.0,), 0, 1, 0, 0.0), Outcome((np.inf,), (7.0,), 0, 0, 0, 168.0)], 1),
    ],
)
def test_what_is_chosen_among_two(outcomes, chosen):
    by_hand = Evaluation([], hourly_bank([], SeriesOptions()), [], [], detectors=[], horizon_hours=6.0)
    for setting, own in enumerate(outcomes):
        by_hand.outcomes[Case("level, pinned", setting, "n", ALL, "network")] = own
    pair = Detector("level, pinned", "pinned", GRID[:2], level)
    assert by_hand.choose(pair, "n", "network", 0.5) == chosen


def test_every_choice_is_judged_on_the_others_alone(evaluation):
    (report,) = evaluation.report("network", 2.0)
    assert report["default"][ALL]["found"] == 2
    assert [(choice["network"], choice["setting"]) for choice in report["chosen"]] == [("calm", 0), ("odd", 1)]
    on_odd, on_calm = (choice["others"][ALL] for choice in report["chosen"])
    assert (on_odd["episodes"], on_odd["found"], on_odd["false_alarms"]) == (1, 1, 1)
    assert (on_calm["episodes"], on_calm["found"], on_calm["false_alarms"]) == (1, 0, 0)


def test_the_grid_holds_every_setting(evaluation):
    grid = evaluation.grid_report("network")
    assert [row["settings"] for row in grid] == [dict(settings) for settings in GRID]
    assert [row[ALL]["found"] for row in grid] == [2, 0, 2]


def test_steps_alone(evaluation):
    (step,) = evaluation.steps_report(["scan"], 2.0)
    assert step["networks"] == 2
    found = step["detectors"]["level, pinned"]
    assert (found["default_found"], found["default_found_anyway"]) == (2, 0)
    assert found["default_found_on"] == ["calm", "odd"]
    assert found["chosen_found_share"] == 0.5


def test_alarms_of_whole_networks_are_kept(evaluation):
    kept = {(case.network, case.setting): times for case, times in evaluation.alarms.items()}
    assert kept["odd", 0] == [31 * H, 41 * H]
    assert kept["calm", 1] == []

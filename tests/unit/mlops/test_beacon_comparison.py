"""The comparison gives every method its own threshold; the ablation takes away what it says."""

from dataclasses import asdict

import numpy as np
import pytest

from eguard.estimators.beacon import BeaconOptions
from eguard.events import EventBatch
from eguard.mlops.beacon_calibration import PairScores, hash_halves
from eguard.mlops.beacon_channels import BeaconChannel, locate
from eguard.mlops.beacon_comparison import LabelledData, MethodScores, ablate, compare, composite_scores, without_part
from eguard.mlops.beacon_leave_out import _choose, leave_one_capture_out, settings_grid
from eguard.mlops.beacon_pairs import pairs_from_events

OPTIONS = BeaconOptions()
BEATS = 300.0 * np.arange(60)


def pairs(rows):
    """Rows of (group, host, address, times, sent)."""
    counts = [len(row[3]) for row in rows]
    spread = [[row[index] for row, count in zip(rows, counts, strict=True) for _ in range(count)] for index in range(5)]
    return pairs_from_events(
        EventBatch(
            time_unix=np.concatenate([row[3] for row in rows]),
            group=spread[0],
            host_id=spread[1],
            event_class=np.full(sum(counts), 3),
            destination_address=spread[2],
            destination_port=np.full(sum(counts), 443),
            sent_bytes=np.array(spread[4]),
        )
    )


@pytest.fixture(scope="module")
def data():
    """Ten hosts that share a timer and visit 150 sites at random; two captures with a jittered and a perfect beacon."""
    rng = np.random.default_rng(11)
    rows = [("benign", f"10.0.0.{host}", "192.0.2.1", BEATS, 100) for host in range(10)]
    for host in range(10):
        for site in rng.choice(150, 60, replace=False).tolist():
            times = np.sort(rng.uniform(0.0, 18_000.0, 25 if site < 6 else 3))
            rows.append(("benign", f"10.0.0.{host}", f"198.51.100.{site}", times, 100))
    rows.append(("first", "10.9.9.9", "203.0.113.1", BEATS, 100))
    rows.append(("second", "10.9.9.9", "203.0.113.2", np.cumsum(300.0 * (1 - 0.4 * rng.random(80))), 100))
    every = pairs(rows)
    benign = every.of_group("benign")
    captures = {name: every.of_group(name) for name in ("first", "second")}
    channels = [
        BeaconChannel(capture=name, group=name, host="10.9.9.9", destination=f"203.0.113.{number}:443")
        for number, name in enumerate(captures, start=1)
    ]
    found = [locate([channel], captures[channel.group])[0] for channel in channels]
    return LabelledData(benign, hash_halves(benign), captures, found)


def test_rarity_lets_beacons_through_that_benign_timers_hide(data):
    table = {(row["method"], row["reading"]): row for row in compare(data, OPTIONS, 0.01)}
    assert table["composite", "destination"]["found"] == ["first", "second"]
    assert table["composite_without_rarity", "destination"]["found"] == []
    assert table["composite_without_rarity", "destination"]["threshold"] == 1.0


def test_plain_information_of_a_perfect_beacon_is_nothing(data):
    table = {(row["method"], row["reading"]): row for row in compare(data, OPTIONS, 0.01)}
    fixed = table["plain_information", "fixed"]
    assert fixed["channel_scores"]["first"] == 0.0
    assert (fixed["threshold"], fixed["alpha"]) == (0.5, None)


def test_every_row_names_both_what_it_finds_and_what_it_costs(data):
    for row in compare(data, OPTIONS, 0.01):
        assert sorted(row["found"] + row["missed"]) == ["first", "second"]
        checking = data.benign.take(~data.is_calibrating)
        assert row["false_alarms"]["destinations"]["of"] == len(np.unique(checking.destination))


def test_ablation_varies_one_thing_at_a_time(data):
    table = {(row["variant"], row["reading"]): row for row in ablate(data, OPTIONS, 0.01, (1, 10))}
    whole = composite_scores(data, OPTIONS).channels.tolist()
    alone = table["1 of 10 hosts call it", "destination"]["channel_scores"]
    assert list(alone.values()) == whole
    assert list(table["10 of 10 hosts call it", "destination"]["channel_scores"].values()) == [0.0, 0.0]
    assert table["without timer", "destination"]["channel_scores"]["first"] == pytest.approx(1.0)


@pytest.mark.parametrize("weight", ["weight_timer", "weight_symmetry", "weight_size", "weight_counts"])
def test_a_part_left_out_weighs_nothing_and_the_rest_keeps_its_proportions(weight):
    changed = asdict(without_part(OPTIONS, weight))
    assert changed[weight] == 0.0
    others = [name for name in changed if name.startswith("weight") and name != weight]
    assert sum(changed[name] for name in others) == pytest.approx(1.0)
    ratios = [changed[name] / getattr(OPTIONS, name) for name in others]
    assert ratios == pytest.approx([ratios[0]] * 3)


def test_the_grid_begins_with_the_fixed_settings_and_has_no_repetition():
    grid = settings_grid(OPTIONS)
    assert grid[0] == OPTIONS
    assert len(set(grid)) == len(grid) == 15


def test_each_capture_is_judged_by_settings_that_the_others_chose(data):
    result = leave_one_capture_out(data, OPTIONS, 0.01)["destination"]
    assert [row["capture"] for row in result["captures"]] == ["first", "second"]
    assert result["n_found"] == result["n_found_by_fixed"] == 2
    # With one capture alone the choice maximises its margin: changing the other capture cannot change it.
    only_second = LabelledData(data.benign, data.is_calibrating, data.captures, data.channels[1:])
    alone = leave_one_capture_out(only_second, OPTIONS, 0.01)["destination"]
    best = max(range(15), key=lambda index: (margin(alone["settings"][index], only_second), -index))
    chosen = result["captures"][0]["chosen"]
    assert chosen == {name: alone["settings"][best][name] for name in chosen}


def test_the_capture_left_out_has_no_say(data):
    benign = PairScores(np.zeros(99, int), np.arange(99), np.zeros(99), np.ones(99, bool))
    everyone = LabelledData(data.benign, np.ones(99, bool), data.captures, data.channels)
    grid = settings_grid(OPTIONS)[:2]
    # The first settings find the first capture well, the second settings the second.
    scored = [MethodScores(benign, np.array([0.9, 0.2])), MethodScores(benign, np.array([0.1, 0.8]))]
    rows = {row["capture"]: row for row in _choose(everyone, grid, scored, 0.01, "destination")["captures"]}
    assert (rows["first"]["score"], rows["second"]["score"]) == (0.1, 0.2)
    assert rows["second"]["is_fixed_setting"]
    assert not rows["first"]["is_fixed_setting"]


def margin(setting, data):
    options = BeaconOptions(**{name: setting[name] for name in asdict(OPTIONS)})
    return composite_scores(data, options).channels.mean() - setting["threshold"]

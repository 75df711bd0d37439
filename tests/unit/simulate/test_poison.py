"""The simulation runs the real wire, store and aggregation, and says what came of it."""

from pathlib import Path

import numpy as np
import pytest

from eguard.errors import ConfigError
from eguard.mlops.poison_attacks import ATTACKS
from eguard.mlops.poison_bounds import AGGREGATORS
from eguard.simulate import poison, poisoned_fleet
from eguard.simulate.poison import PoisonSettings, simulate_poison

HEADER = "capture,host,ts,src,eid,event_type,image,parent,target,cmdline"


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    rng = np.random.default_rng(0)
    lines = [HEADER]
    for host in range(6):
        for number, kind in enumerate(rng.choice(["exec", "dns", "module_load"], p=[0.1, 0.1, 0.8], size=120)):
            lines.append(f"c,h{host},2020-01-01T00:0{number // 60}:{number % 60:02d}Z,sysmon,1,{kind},svc,boot,x,")
    path = tmp_path_factory.mktemp("log") / "events.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def settings(log, **changes):
    return PoisonSettings(**{"share": 0.2, "agents": 20, "profiles": log} | changes)


@pytest.fixture(scope="module")
def everything(log):
    return simulate_poison(settings(log, attack="all"))


def test_every_attack_is_run_and_stays_within_its_bound(everything):
    assert [result["attack"] for result in everything["attacks"]] == list(ATTACKS)
    assert everything["within_bound"]
    assert (everything["agents"], everything["liars"], everything["real_hosts"]) == (20, 4, 6)
    for result in everything["attacks"]:
        assert 0.0 < result["total_variation"] <= result["bound_total_variation"] + 1e-6
        assert result["verdict"]["within_bound"]


def test_clean_is_the_honest_agents_alone_and_poisoned_everybody(everything):
    for result in everything["attacks"]:
        assert (result["clean"]["votes"], result["poisoned"]["votes"]) == (16, 20)
        assert (result["clean"]["tolerated_faults"], result["poisoned"]["tolerated_faults"]) == (7, 9)
        assert (result["clean"]["generation"], result["poisoned"]["generation"]) == (1, 2)
        assert sum(result["poisoned"]["distribution"].values()) == pytest.approx(1.0, abs=1e-6)


def test_the_shift_is_that_of_the_two_distributions(everything):
    for result in everything["attacks"]:
        before, after = (np.array(list(result[side]["distribution"].values())) for side in ("clean", "poisoned"))
        assert result["total_variation"] == pytest.approx(0.5 * np.abs(before - after).sum(), abs=1e-12)
        # A single cycle: the pinned generation is the one before.
        (cycle,) = result["cycles"]
        assert cycle["js_previous_nats"] == pytest.approx(cycle["js_reference_nats"])
        assert cycle["js_reference_nats"] == pytest.approx(result["js_nats"], abs=1e-9)


def test_lie_moves_the_median_more_than_the_mean_and_one_hot_does_not(everything):
    verdicts = {result["attack"]: result["verdict"] for result in everything["attacks"]}
    assert verdicts["lie"]["moved_more_than_mean"]
    assert not verdicts["one-hot"]["moved_more_than_mean"]
    assert "no promise" in verdicts["lie"]["sentence"]


def test_uploads_travel_as_bodies_of_the_wire(log, monkeypatch):
    bodies = []
    real = poisoned_fleet.receive_baseline_batch
    monkeypatch.setattr(poisoned_fleet, "receive_baseline_batch", lambda body: bodies.append(body) or real(body))
    simulate_poison(settings(log))
    assert len(bodies) == 20
    assert all(body.startswith(b"{") and b'"process_key":"svc:boot"' in body for body in bodies)


def test_a_slow_walk_ends_where_the_attack_at_once_does_and_neighbours_hardly_differ(log):
    at_once = simulate_poison(settings(log, share=0.45, attack="min-max"))["attacks"][0]
    slow = simulate_poison(settings(log, share=0.45, attack="min-max", cycles=12))["attacks"][0]
    assert len(slow["cycles"]) == 12
    assert slow["total_variation"] == pytest.approx(at_once["total_variation"], abs=1e-9)
    steps = max(cycle["js_previous_nats"] for cycle in slow["cycles"])
    assert steps < 0.5 * at_once["cycles"][0]["js_previous_nats"]
    moved = [cycle["total_variation"] for cycle in slow["cycles"]]
    assert moved[-1] > 2 * moved[0]


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_other_aggregators_are_held_against_their_own_bounds(log, aggregator):
    result = simulate_poison(settings(log, attack="one-hot", aggregator=aggregator))
    assert result["within_bound"]
    if aggregator == "mean":
        assert result["attacks"][0]["total_variation"] == pytest.approx(0.2, abs=1e-9)


def test_more_liars_move_more(log):
    moved = [
        simulate_poison(settings(log, share=share, attack="fang"))["attacks"][0]["total_variation"]
        for share in (0.1, 0.25, 0.45)
    ]
    assert moved == sorted(moved)


def test_a_silenced_key_is_said_to_be_withheld(log, monkeypatch):
    """Two camps of six agree on .9 between them; four liars elsewhere leave both without a majority."""
    camps = np.repeat([[0.9, 0, 0.1, 0, 0, 0, 0, 0], [0, 0.9, 0.1, 0, 0, 0, 0, 0]], [6, 6], axis=0)
    votes = np.vstack([camps, camps[:4]])
    cohort = poison.Cohort(votes, np.full(16, 100), np.rint(100 * votes).astype(np.int64))
    monkeypatch.setattr(poison, "resample_cohort", lambda *_: cohort)
    result = simulate_poison(settings(log, agents=16, share=0.25, attack="one-hot"))["attacks"][0]
    assert result["clean"]["mass"] == pytest.approx(1.0, abs=1e-6)
    assert not result["poisoned"]["published"]
    assert result["poisoned"]["withheld_because"] == "below_min_mass"
    assert result["total_variation"] is None
    assert result["js_nats"] is None
    assert "withheld" in result["verdict"]["sentence"]


def test_honest_agents_that_agree_on_nothing_are_no_fleet_to_poison(log, monkeypatch):
    spread = np.tile(np.eye(8)[:4], (4, 1))  # four camps: no class has a majority
    cohort = poison.Cohort(spread, np.full(16, 100), (100 * spread).astype(np.int64))
    monkeypatch.setattr(poison, "resample_cohort", lambda *_: cohort)
    with pytest.raises(ConfigError, match="agree on too little"):
        simulate_poison(settings(log, agents=16))


def test_seeds_reproduce_and_differ(log):
    first = simulate_poison(settings(log, seed=3))
    assert simulate_poison(settings(log, seed=3)) == first
    assert simulate_poison(settings(log, seed=4))["attacks"] != first["attacks"]


def test_a_bound_that_is_broken_is_reported(log, monkeypatch):
    monkeypatch.setattr(poison, "shift_bound", lambda *_: 1e-9)
    result = simulate_poison(settings(log, attack="one-hot"))
    assert not result["within_bound"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"share": 0.5}, "share of liars"),
        ({"share": 0.0}, "share of liars"),
        ({"share": float("nan")}, "share of liars"),
        ({"attack": "nope"}, "no attack 'nope'"),
        ({"agents": 3}, "one liar and 3 honest agents"),
        ({"agents": 10, "share": 0.01}, "0 liars"),
        ({"cycles": 0}, "cycles must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_impossible_settings_are_refused_in_words(change, words):
    with pytest.raises(ConfigError, match=words):
        PoisonSettings(**{"share": 0.2, "profiles": Path("x")} | change)

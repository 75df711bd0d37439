"""The four checks, judged from made-up measures: each bound from both sides, and what is not known."""

import dataclasses
import itertools
import math

import pytest

from eguard.server.services.rollout_checks import (
    AlertTally,
    CheckState,
    Spread,
    StageBudget,
    StageMeasures,
    judge_stage,
    next_stage,
    rate_excess_p_value,
)

MIB = 1 << 20
GOOD = StageMeasures(
    stage_percent=5.0,
    cohort_size=10,
    uploads=Spread(8, 0),
    seeds=Spread(4, 0),
    reporting=10,
    silent=0,
    cpu_fraction=0.05,
    rss_bytes=256.0 * MIB,
    before=AlertTally(50, 1000.0, 20, 4),
    since=AlertTally(2, 20.0, 2, 1),
)
NAMES = ["uploads_inside_cohort", "seeds_inside_cohort", "agents_inside_budget", "alert_queue"]


def judge(**changes):
    checks = judge_stage(dataclasses.replace(GOOD, **changes), StageBudget())
    assert [check.name for check in checks] == NAMES
    return dict(zip(["uploads", "seeds", "budget", "queue"], checks, strict=True))


def test_a_good_stage_passes_all_four_at_their_bounds():
    assert {check.state for check in judge().values()} == {CheckState.OK}


@pytest.mark.parametrize(
    ("check", "changes", "state"),
    [
        ("uploads", {"uploads": Spread(8, 1, ("x",))}, "missed"),
        ("uploads", {"uploads": Spread(0, 0)}, "unknown"),
        ("uploads", {"uploads": Spread(0, 0), "cohort_size": 0}, "unknown"),
        ("uploads", {"uploads": Spread(0, 0), "stage_percent": 0.0}, "ok"),
        ("uploads", {"uploads": Spread(0, 1, ("x",)), "stage_percent": 0.0}, "missed"),
        ("seeds", {"seeds": Spread(4, 1, ("x",))}, "missed"),
        ("seeds", {"seeds": Spread(0, 0)}, "ok"),
        ("seeds", {"seeds": Spread(0, 0), "uploads": Spread(0, 0)}, "unknown"),
        ("seeds", {"seeds": Spread(0, 0), "stage_percent": 0.0, "uploads": Spread(0, 0)}, "ok"),
        ("budget", {"cpu_fraction": 0.051}, "missed"),
        ("budget", {"rss_bytes": 257.0 * MIB}, "missed"),
        ("budget", {"silent": 1}, "ok"),
        ("budget", {"silent": 2}, "missed"),
        ("budget", {"reporting": 0, "cpu_fraction": None, "rss_bytes": None}, "unknown"),
        ("budget", {"cpu_fraction": None, "rss_bytes": None}, "unknown"),
        ("budget", {"cpu_fraction": None, "rss_bytes": 300.0 * MIB}, "missed"),
        ("queue", {"since": AlertTally(0, 20.0)}, "ok"),
        ("queue", {"since": AlertTally(0, 0.0)}, "unknown"),
        ("queue", {"since": AlertTally(4, 0.1, 4, 0)}, "ok"),  # too few to be a spike
        ("queue", {"since": AlertTally(10, 20.0, 5, 1)}, "missed"),  # 0.5 an hour, 0.05 before
        ("queue", {"since": AlertTally(2, 20.0, 0, 0)}, "unknown"),
        ("queue", {"since": AlertTally(60, 600.0, 4, 0)}, "unknown"),
        ("queue", {"since": AlertTally(20, 200.0, 10, 3)}, "ok"),  # 30 %, 20 % before
        ("queue", {"since": AlertTally(20, 200.0, 10, 4)}, "missed"),
        ("queue", {"before": AlertTally(0, 0.0), "since": AlertTally(2, 20.0, 2, 0)}, "unknown"),
        ("queue", {"before": AlertTally(9, 99.0), "since": AlertTally(6, 99.0, 6, 3)}, "ok"),  # no share before: half
        ("queue", {"before": AlertTally(9, 99.0), "since": AlertTally(6, 99.0, 6, 4)}, "missed"),
    ],
)
def test_bound(check, changes, state):
    found = judge(**changes)[check]
    assert found.state == state
    assert found.to_dict()["ok"] is {"ok": True, "missed": False, "unknown": None}[state]
    assert set(found.value) == set(found.bound)


def test_who_was_outside_is_named():
    assert "web-1, web-2" in judge(uploads=Spread(0, 2, ("web-1", "web-2")))["uploads"].detail


def test_the_rate_test_is_the_exact_binomial_tail():
    for since, before in itertools.product([1, 3, 7], [0, 2, 9]):
        weight = 2.0 * 5.0 / (2.0 * 5.0 + 40.0)
        count = since + before
        tail = sum(math.comb(count, k) * weight**k * (1 - weight) ** (count - k) for k in range(since, count + 1))
        found = rate_excess_p_value(AlertTally(since, 5.0), AlertTally(before, 40.0), 2.0)
        assert found == pytest.approx(tail, rel=1e-12)
    assert rate_excess_p_value(AlertTally(0, 5.0), AlertTally(9, 40.0), 2.0) == 1.0


def test_the_walk_is_that_of_the_manual():
    walk = [0.0]
    while (following := next_stage(walk[-1])) is not None:
        walk.append(following)
    assert walk == [0.0, 1.0, 5.0, 20.0, 100.0]

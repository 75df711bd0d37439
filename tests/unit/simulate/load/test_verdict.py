"""The verdict: what is missed is named, and what is there is in the table."""

import pytest

from eguard.simulate.load.verdict import verdict


def report(**changed):
    return {
        "options": {"agents": 10, "profiles": 20, "is_polling": True, "interval_seconds": 900.0},
        "operations": {"upload": {"p99_ms": 20.0}, "fetch": {"p99_ms": 5.0}},
        "failed": 0,
        "profiles": {"sent": 200, "accepted": 200},
        "most_connected": 10,
        "most_waiting": 10,
        "uploads": 10,
        "start": {"agents": 10, "served": 10, "half_seconds": 1.0, "last_seconds": 2.0},
        "generator": {"before_mib": 100.0, "peak_mib": 110.0, "cpu_seconds": 1.0},
        **changed,
    }


def test_a_run_in_which_everything_held_passes():
    found = verdict(report(), max_p99_ms=20.0)
    assert found["passed"]
    assert ("profiles taken", "200 of 200") in found["scale"]


@pytest.mark.parametrize(
    ("changed", "bounds", "said"),
    [
        ({"failed": 1}, {}, "1 requests or connections failed"),
        ({"failed": 3}, {"max_errors": 2}, "at most 2"),
        ({}, {"max_p99_ms": 19.9}, "p99 of upload is 20.0 ms"),
        ({"operations": {"upload": {"p99_ms": 1.0}}}, {"max_p99_ms": 5.0}, "p99 of fetch is None"),
        ({"start": {"agents": 10, "served": 9, "half_seconds": 1.0, "last_seconds": 2.0}}, {}, "1 of 10 agents"),
        ({"visits": {"due": 4, "unfinished": 2}}, {}, "2 visits did not end"),
        ({"profiles": {"sent": 200, "accepted": 180}}, {}, "20 of 200 profiles"),
        (
            {"kill_switch": {
                "refused_seconds": 0.1, "waiting": 9, "waiting_told_seconds": 1.0, "all_told_seconds": None
            }},
            {},
            "did not reach everybody",
        ),
    ],
    ids=["failure", "failures", "slow", "no fetch", "not served", "visits", "profiles", "switch"],
)  # fmt: skip
def test_what_is_missed_is_named(changed, bounds, said):
    found = verdict(report(**changed), **bounds)
    assert not found["passed"]
    assert any(said in miss for miss in found["misses"])


def test_failures_that_were_allowed_are_none():
    assert verdict(report(failed=2), max_errors=2)["passed"]

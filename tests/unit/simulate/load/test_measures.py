"""Counting: quantiles to one per cent, by phase, by second."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.simulate.load.measures import Histogram, Measures


@given(st.lists(st.floats(1e-5, 300.0), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_that_of_the_sorted_values_to_one_per_cent(values, share):
    durations = Histogram()
    for value in values:
        durations.add(value)
    exact = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    assert exact * (1 - 1e-9) <= durations.quantile(share) <= exact * 1.0101
    assert durations.count == len(values)
    assert durations.largest == max(values)


def test_merging_is_counting_both():
    rng = np.random.default_rng(0)
    first, second, both = Histogram(), Histogram(), Histogram()
    for value in rng.lognormal(size=100).tolist():
        first.add(value)
        both.add(value)
    for value in rng.lognormal(size=50).tolist():
        second.add(value)
        both.add(value)
    first.merge(second)
    assert first.to_dict() == pytest.approx(both.to_dict())
    assert first.cells() == both.cells()
    assert sum(count for _, count in both.cells()) == 150


def test_nothing_counted_is_no_number():
    assert math.isnan(Histogram().quantile(0.5))
    assert Histogram().to_dict() == {
        "count": 0, "p50_ms": None, "p95_ms": None, "p99_ms": None, "mean_ms": None, "max_ms": None
    }  # fmt: skip


def test_phases_are_apart_and_their_sum_is_there_too():
    measures = Measures()
    measures.note("upload", 0.010)
    measures.fail("upload", "timeout")
    measures.phase = "herd"
    measures.note("upload", 0.030)
    measures.fail("connect", "connect_refused")
    found = measures.to_dict()
    assert {phase: each["upload"]["count"] for phase, each in found["operations_by_phase"].items()} == {
        "start": 1, "herd": 1
    }  # fmt: skip
    assert found["operations"]["upload"]["count"] == 2
    assert found["operations"]["upload"]["max_ms"] == 30.0
    assert found["failed"] == 2
    assert {(each["phase"], each["operation"], each["kind"]) for each in found["failures"]} == {
        ("start", "upload", "timeout"), ("herd", "connect", "connect_refused")
    }  # fmt: skip


def test_a_second_has_only_what_happened_in_it():
    measures = Measures()
    measures.connection(+1)
    measures.note("upload", 0.5)
    measures.note("heartbeat", 9.0)
    first = measures.tick(1.0, 120.0)
    assert (first.uploads, first.upload_p99_ms, first.connected, first.failures) == (1, 500.0, 1, 0)
    measures.connection(-1)
    measures.fail("poll", "closed")
    second = measures.tick(2.0, None)
    assert (second.uploads, second.upload_p99_ms, second.connected, second.failures) == (0, None, 0, 1)
    assert second.failures_so_far == 1
    assert measures.most_connected == 1

"""What one analyst may say."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.mlops.analyst_cap import analyst_bound, cap_analysts


def corpus(*counts, label=1, shipped=0):
    names = [name for number, count in enumerate(counts) for name in [f"a{number}"] * count] + [None] * shipped
    labels = pd.array([label] * len(names), dtype="Int8")
    return pd.DataFrame({"analyst": pd.Series(names, dtype=object), "label": labels, "weight": 1.0})


def shares(frame, weights):
    named = frame["analyst"].notna()
    sums = pd.Series(weights[named]).groupby(frame.loc[named, "analyst"].to_numpy()).sum()
    return (sums / sums.sum()).to_dict()


def test_a_flood_of_one_analyst_weighs_what_the_bound_says():
    """Ten analysts may have 20 % each; nine gave 10 rows and one gave 910."""
    frame = corpus(910, *[10] * 9)
    weights, facts = cap_analysts(frame)
    assert shares(frame, weights)["a0"] == pytest.approx(0.2)
    assert weights[910:].tolist() == [1.0] * 90
    # w = 0.2 (90 + w), so w = 22.5
    assert weights[:910].sum() == pytest.approx(22.5)
    assert facts["capped"] == ["a0: positive"]
    assert facts["largest_share_positive"] == pytest.approx(0.91)
    assert facts["largest_share_positive_after"] == pytest.approx(0.2)


def test_two_floods_are_capped_together():
    frame = corpus(500, 400, *[5] * 8)
    weights, _ = cap_analysts(frame)
    found = shares(frame, weights)
    assert found["a0"] == pytest.approx(0.2)
    assert found["a1"] == pytest.approx(0.2)


def test_shipped_labels_are_exempt():
    frame = corpus(50, 50, shipped=10_000)
    weights, facts = cap_analysts(frame)
    assert weights.tolist() == [1.0] * 10_100
    assert (facts["analysts"], facts["bound"], facts["capped"]) == (2, 0.75, [])


def test_without_names_there_is_nothing_to_cap():
    weights, facts = cap_analysts(corpus(shipped=5))
    assert weights.tolist() == [1.0] * 5
    assert facts["analysts"] == 0


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_nobody_has_more_than_the_bound_and_nobody_gains(counts):
    frame = corpus(*counts)
    weights, _ = cap_analysts(frame)
    assert np.all(weights > 0.0)
    assert np.all(weights <= 1.0)
    assert max(shares(frame, weights).values()) <= analyst_bound(len(counts)) + 1e-9

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.mlops.sampling import cap_floods, hash_ranks, stratified_sample


def test_ranks_follow_sha256():
    names = [f"s{index}" for index in range(200)]
    by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    assert [names[index] for index in np.argsort(hash_ranks(names))] == by_hash


def test_no_ids_have_no_ranks():
    assert hash_ranks([]).tolist() == []


def test_a_flood_is_capped_and_its_rows_stand_for_it():
    group = np.array([0] * 10 + [1] * 2)
    kept, weight = cap_floods([group], np.arange(12)[::-1].copy(), 4)
    assert kept.tolist() == [6, 7, 8, 9, 10, 11]  # the lowest ranks are the last rows
    assert weight[kept].tolist() == [2.5] * 4 + [1.0] * 2


def test_groups_are_combinations_of_their_keys():
    hosts, rules = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert cap_floods([hosts, rules], np.arange(4), 1)[0].tolist() == [0, 1, 2, 3]
    assert cap_floods([hosts], np.arange(4), 1)[0].tolist() == [0, 2]


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=200),
    st.integers(1, 120),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
)
def test_a_stratified_sample_keeps_its_budget_and_the_total(strata, budget, min_rows, seed):
    strata = np.array(strata)
    rank = np.random.default_rng(seed).permutation(len(strata))
    before = np.random.default_rng(seed).uniform(1, 9, len(strata))
    kept, weight = stratified_sample([strata], rank, before, budget=budget, min_rows=min_rows)
    assert len(kept) <= max(budget, 0)
    assert len(set(kept.tolist())) == len(kept)
    for stratum in np.unique(strata[kept]):
        in_stratum = strata[kept] == stratum
        assert weight[in_stratum].sum() == pytest.approx(before[strata == stratum].sum())
        chosen = kept[in_stratum]
        left_out = np.setdiff1d(np.flatnonzero(strata == stratum), chosen)
        assert not len(left_out) or rank[chosen].max() < rank[left_out].min()


def test_small_strata_keep_their_floor():
    strata = np.array([0] * 9000 + [1] * 60 + [2] * 5)
    kept, weight = stratified_sample([strata], np.arange(9065), np.ones(9065), budget=1000, min_rows=40)
    sizes = np.bincount(strata[kept])
    assert sizes.tolist()[1:] == [40, 5]
    assert 950 <= sizes[0] + 45 <= 1000
    assert weight[strata[kept] == 2].tolist() == [1.0] * 5


def test_what_fits_is_kept_whole():
    kept, weight = stratified_sample([np.zeros(5, int)], np.arange(5), np.full(5, 2.0), budget=5, min_rows=1)
    assert kept.tolist() == [0, 1, 2, 3, 4]
    assert weight.tolist() == [2.0] * 5

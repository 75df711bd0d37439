"""Whatever liars vote, the aggregate stays within its bound; and attacks stay within what the wire accepts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eguard.mlops.poison_attacks import ATTACKS
from eguard.mlops.poison_bounds import AGGREGATORS, clean_aggregate, shift_bound

SEEDS = st.integers(0, 2**32 - 1)


def cohort(seed, size, spread):
    """Honest votes, some of them of few events, so that ties and absent classes occur."""
    rng = np.random.default_rng(seed)
    behaviours = rng.dirichlet(spread * rng.dirichlet(np.ones(8)) + 1e-3, size=size)
    counts = rng.multinomial(rng.integers(1, 60, size=size), behaviours)
    return counts / counts.sum(axis=1, keepdims=True)


@given(SEEDS, st.integers(3, 25), st.floats(0.05, 0.49), st.floats(0.5, 100.0))
def test_no_votes_whatever_leave_the_bound(seed, size, share, spread):
    honest = cohort(seed, size, spread)
    liars = max(1, min(int(share / (1 - share) * size), size - 1))
    rng = np.random.default_rng(seed + 1)
    lies = [
        rng.dirichlet(np.full(8, 0.2), size=liars),
        np.tile(np.eye(8)[rng.integers(8)], (liars, 1)),
        *(attack(honest, liars, rng) for attack in ATTACKS.values()),
    ]
    for aggregator in AGGREGATORS:
        clean = clean_aggregate(honest, aggregator)
        bound = shift_bound(honest, liars, aggregator)
        for votes in lies:
            after = clean_aggregate(np.vstack([honest, votes]), aggregator)
            if clean is not None and after is not None:
                assert 0.5 * np.abs(after - clean).sum() <= bound + 1e-6


@given(SEEDS, st.integers(2, 25), st.integers(0, 20), st.floats(0.5, 100.0))
def test_every_attack_votes_on_the_simplex(seed, size, liars, spread):
    honest = cohort(seed, size, spread)
    for attack in ATTACKS.values():
        rng = np.random.default_rng(seed)
        votes = attack(honest, liars, rng, attack.searched(honest, rng))
        assert votes.shape[1:] == (liars, 8)
        assert (votes >= 0.0).all()
        np.testing.assert_allclose(votes.sum(axis=-1), 1.0, atol=1e-9)

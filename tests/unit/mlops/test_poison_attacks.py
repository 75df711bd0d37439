"""Each attack does what its paper says, within what the wire accepts."""

from statistics import NormalDist

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist, squareform

from eguard.errors import ConfigError
from eguard.mlops.poison_attacks import ATTACKS, attack_named, lie_deviations, on_simplex
from eguard.wire.distribution import SUM_TOLERANCE

LIARS = 12


@pytest.fixture(scope="module")
def honest():
    return np.random.default_rng(8).dirichlet([30, 15, 8, 4, 2, 1, 0.5, 0.2], size=28)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_every_vote_is_one_that_the_wire_accepts(honest, attack):
    rng = np.random.default_rng(1)
    directions = attack.searched(honest, rng)
    votes = attack(honest, LIARS, rng, directions)
    assert votes.shape == (len(directions), LIARS, 8)
    assert votes.min() >= 0.0
    np.testing.assert_allclose(votes.sum(axis=-1), 1.0, atol=SUM_TOLERANCE / 1000)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_the_default_direction_is_the_first_published_one(honest, attack):
    first = attack.published(honest)[0]
    alone = attack(honest, LIARS, np.random.default_rng(3))
    assert alone.shape == (LIARS, 8)
    np.testing.assert_array_equal(alone, attack(honest, LIARS, np.random.default_rng(3), first))


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "fang"])
def test_directions_together_equal_each_alone(honest, name):
    rng = np.random.default_rng(1)
    directions = ATTACKS[name].searched(honest, rng)
    together = ATTACKS[name](honest, LIARS, rng, directions)
    for direction, votes in zip(directions, together, strict=True):
        np.testing.assert_allclose(ATTACKS[name](honest, LIARS, rng, direction), votes, atol=1e-15)


def test_one_hot_votes_for_the_rarest_class(honest):
    votes = ATTACKS["one-hot"](honest, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(votes, np.tile(np.eye(8)[honest.mean(axis=0).argmin()], (3, 1)))


@pytest.mark.parametrize(
    ("n", "liars", "supporters"),
    [(50, 24, 2), (50, 10, 16), (200, 20, 81), (21, 10, 1), (7, 2, 2)],
)
def test_lie_hides_behind_a_majority(n, liars, supporters):
    """Baruch et al.: s = floor(n/2) + 1 - m, z the quantile of (n - m - s)/(n - m)."""
    share = (n - liars - supporters) / (n - liars)
    assert lie_deviations(n - liars, liars) == pytest.approx(NormalDist().inv_cdf(max(share, 0.5)), abs=1e-9)


def test_lie_at_the_papers_example_is_143():
    # 24/26 of the honest lie below z: the tables give 1.43.
    assert round(lie_deviations(26, 24), 2) == 1.43


def test_lie_stays_z_deviations_from_the_mean_where_nothing_is_clipped():
    honest = np.random.default_rng(2).dirichlet([200.0] * 8, size=40)
    vote = ATTACKS["lie"](honest, 10, np.random.default_rng(0))[0]
    raised = honest.mean(axis=0) + lie_deviations(40, 10) * honest.std(axis=0)
    np.testing.assert_allclose(vote, raised / raised.sum(), rtol=1e-12)


def test_few_liars_do_not_leave_the_mean():
    # With one liar among 201 more than half of the honest would have to stand beyond the lie: z is 0 and not negative.
    assert lie_deviations(200, 1) == 0.0


def test_fang_is_beyond_every_honest_value_before_it_is_normalised(honest):
    """Ratios between raised classes survive the division: each is raised by a factor in [1, 2]."""
    direction = np.where(np.arange(8) < 4, 1.0, -1.0)
    votes = ATTACKS["fang"](honest, 50, np.random.default_rng(0), direction)
    low, high = honest.min(axis=0), honest.max(axis=0)
    raised = votes[:, :4] / high[:4]
    assert (raised.max(axis=1) / raised.min(axis=1)).max() <= 2.0 + 1e-12
    lowered = votes[:, 4:] * np.where(low[4:] > 0, 1 / np.maximum(low[4:], 1e-300), 0.0)
    assert (lowered[:, :2].max(axis=1) <= raised.min(axis=1) + 1e-12).all()
    assert len(np.unique(votes[:, 0])) == 50  # liars scatter: no two votes are equal


def test_min_max_is_no_further_from_anyone_than_two_honest_votes_are_apart(honest):
    attack = ATTACKS["min-max"]
    limit = pdist(honest).max()
    rng = np.random.default_rng(0)
    votes = attack(honest, 1, rng, attack.searched(honest, rng))[:, 0]
    reach = cdist(votes, honest).max(axis=1)
    assert reach.max() <= limit + 1e-12
    # Not timid either: some direction goes to the limit.
    assert reach.max() == pytest.approx(limit, rel=1e-6)


def test_min_sum_keeps_its_sum_of_squared_distances_within_the_largest_honest_one(honest):
    attack = ATTACKS["min-sum"]
    limit = squareform(pdist(honest, "sqeuclidean")).sum(axis=1).max()
    rng = np.random.default_rng(0)
    votes = attack(honest, 1, rng, attack.searched(honest, rng))[:, 0]
    sums = cdist(votes, honest, "sqeuclidean").sum(axis=1)
    assert sums.max() <= limit * (1 + 1e-12)
    assert sums.max() == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_unanimous_fleet_is_attacked_without_a_warning(attack):
    same = np.tile([0.5, 0.5, 0, 0, 0, 0, 0, 0], (9, 1))
    rng = np.random.default_rng(0)
    votes = attack(same, 4, rng, attack.searched(same, rng))
    np.testing.assert_allclose(votes.sum(axis=-1), 1.0)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nobody_lying_is_no_vote(honest, attack):
    assert attack(honest, 0, np.random.default_rng(0)).shape == (0, 8)


def test_attacks_are_reproducible(honest):
    for attack in ATTACKS.values():
        first = attack(honest, LIARS, np.random.default_rng(7), attack.searched(honest, np.random.default_rng(7)))
        again = attack(honest, LIARS, np.random.default_rng(7), attack.searched(honest, np.random.default_rng(7)))
        np.testing.assert_array_equal(first, again)


def test_every_attack_names_its_paper():
    for attack in ATTACKS.values():
        assert attack.title.endswith(".")
        assert 2010 < attack.source.year < 2030
        assert attack.source.authors


def test_an_unknown_attack_is_told_the_known_ones():
    with pytest.raises(ConfigError) as error:
        attack_named("nope")
    assert all(name in error.value.remedy for name in ATTACKS)


@pytest.mark.parametrize(("rows", "liars"), [(1, 1), (5, -1)])
def test_impossible_numbers_are_refused(rows, liars):
    with pytest.raises(ConfigError):
        ATTACKS["lie"](np.full((rows, 8), 0.125), liars, np.random.default_rng(0))


def test_nothing_left_becomes_uniform():
    np.testing.assert_allclose(on_simplex(np.array([-1.0, -2.0])), [0.5, 0.5])

"""Canary cohorts over a million agents of four shapes of names: nested, even, and independent between rollouts."""

import functools
import uuid

import numpy as np
import pytest

from eguard.policy import bucket_limit, canary_bucket, canary_buckets, in_canary

pytestmark = pytest.mark.slow

AGENTS = 250_000
SALT = "mlops-rollout"
#: 99.9 % quantile of chi-square with 99 degrees of freedom.
CHI_SQUARE_BOUND = 148.2


def uuid_names():
    digits = np.random.default_rng(4).bytes(16 * AGENTS).hex()
    drawn = (digits[start : start + 32] for start in range(0, len(digits), 32))
    return [f"{d[:8]}-{d[8:12]}-4{d[13:16]}-{'89ab'[int(d[16], 16) % 4]}{d[17:20]}-{d[20:]}" for d in drawn]


def host_names():
    roles, places = ["web", "db", "build", "mail", "pc"], ["ber", "par", "osl", "nyc"]
    return [
        f"{roles[index % 5]}-{index // 20:05d}.{places[index // 5 % 4]}.corp.example.org" for index in range(AGENTS)
    ]


SHAPES = {
    "decimal": lambda: [f"agent-{index:06d}" for index in range(AGENTS)],
    "hexadecimal": lambda: [f"agent-{index:012x}" for index in range(AGENTS)],
    "uuid4": uuid_names,
    "hosts": host_names,
}


@functools.cache
def deal(name):
    names = SHAPES[name]()
    assert len(set(names)) == AGENTS
    return names, canary_buckets(names, SALT)


@pytest.fixture(params=sorted(SHAPES))
def shape(request):
    return deal(request.param)


def test_the_shape_of_a_uuid_is_that_of_one():
    names = uuid_names()
    assert all(uuid.UUID(name).version == 4 and str(uuid.UUID(name)) == name for name in names[:1000])


def test_cohorts_are_nested_for_all_shares_p_below_q(shape):
    _, buckets = shape
    # An agent is in at p exactly if its bucket is below 100 p: being in at p and out at q > p would need a limit that
    # falls. So the claim holds for all pairs if the limits rise over all 10,001 shares and membership is that of the
    # limits, which is counted here for every share at once.
    shares = np.arange(10_001) / 100
    limits = np.array([bucket_limit(float(share)) for share in shares])
    assert (np.diff(limits) > 0).all()
    assert (limits[0], limits[-1]) == (0, 10_000)
    assert buckets.min() >= 0
    assert buckets.max() < 10_000
    sizes = np.concatenate([[0], np.cumsum(np.bincount(buckets, minlength=10_000))])[limits]
    assert (np.diff(sizes) >= 0).all()
    assert (sizes[0], sizes[-1]) == (0, AGENTS)


def test_membership_as_agents_decide_it_is_nested_and_that_of_the_server(shape):
    names, buckets = shape
    shares = [0.0, 0.01, 0.29, 1.0, 5.0, 20.0, 57.14, 99.99, 100.0]
    for index in range(0, AGENTS, 250):
        inside = [in_canary(names[index], SALT, share) for share in shares]
        assert inside == sorted(inside)
        assert inside == [bool(buckets[index] < round(share * 100)) for share in shares]
        assert canary_bucket(names[index], SALT) == buckets[index]


def test_a_hundred_buckets_are_filled_evenly(shape):
    _, buckets = shape
    counts = np.bincount(buckets // 100, minlength=100)
    expected = AGENTS / 100
    assert ((counts - expected) ** 2 / expected).sum() < CHI_SQUARE_BOUND


def test_the_stages_have_the_sizes_that_they_name(shape):
    _, buckets = shape
    for percent in (1.0, 5.0, 20.0):
        fraction = percent / 100
        size = int((buckets < bucket_limit(percent)).sum())
        deviation = (AGENTS * fraction * (1 - fraction)) ** 0.5
        assert abs(size - AGENTS * fraction) < 4.5 * deviation


def test_another_rollout_deals_anew(shape):
    names, buckets = shape
    other = canary_buckets(names, "another-rollout")
    both = int(((buckets < 500) & (other < 500)).sum())
    expected = AGENTS * 0.05 * 0.05
    assert abs(both - expected) < 4.5 * expected**0.5

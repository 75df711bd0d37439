import hashlib

import numpy as np
import pytest

from eguard.policy import bucket_limit, canary_bucket, canary_buckets, in_canary


@pytest.mark.parametrize(
    ("agent_id", "salt"), [("agent-31bbb93f38b4", "mlops-rollout"), ("höst", "r"), ("x" * 128, "s" * 64)], ids=ascii
)
def test_the_bucket_is_the_keyed_hash_of_the_contract(agent_id, salt):
    digest = hashlib.blake2b(agent_id.encode(), digest_size=8, key=salt.encode()).hexdigest()
    assert canary_bucket(agent_id, salt) == int(digest, 16) % 10_000


def test_recorded_buckets_never_change():
    # A changed hash would silently deal every running canary anew.
    names = ["agent-000000", "agent-31bbb93f38b4", "web-01.example.org"]
    assert [canary_bucket(name, "mlops-rollout") for name in names] == RECORDED
    assert canary_bucket("agent-000000", "another-rollout") != RECORDED[0]


RECORDED = [5998, 8892, 7367]


def test_many_buckets_are_those_of_each():
    names = [f"agent-{index:06d}" for index in range(500)]
    expected = [canary_bucket(name, "r1") for name in names]
    assert canary_buckets(names, "r1").tolist() == expected
    assert canary_buckets([name.encode() for name in names], "r1").tolist() == expected
    assert canary_buckets([], "r1").shape == (0,)


def test_the_limit_counts_hundredths_of_a_percent_exactly():
    percents = np.arange(10_001) / 100
    assert [bucket_limit(float(percent)) for percent in percents] == list(range(10_001))


def test_nobody_is_in_at_zero_and_everybody_at_a_hundred():
    names = [f"agent-{index}" for index in range(2_000)]
    assert not any(in_canary(name, "r", 0) for name in names)
    assert all(in_canary(name, "r", 100) for name in names)


def test_the_bucket_at_the_limit_is_out():
    assert canary_bucket("agent-31bbb93f38b4", "mlops-rollout") == 8892
    assert not in_canary("agent-31bbb93f38b4", "mlops-rollout", 88.92)
    assert in_canary("agent-31bbb93f38b4", "mlops-rollout", 88.93)

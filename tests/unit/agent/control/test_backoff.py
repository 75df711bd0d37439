"""Pauses between attempts: doubling to a bound, spread, and as long as a server asks for."""

import random

import pytest

from eguard.agent.control.backoff import Backoff, is_final, retry_after
from eguard.errors import BaselineStoreError, ServerRefusalError, ServerUnavailableError


def test_pauses_double_up_to_five_minutes_within_a_fifth():
    pauses = [Backoff(random.Random(seed)) for seed in range(100)]
    for step in range(30):
        expected = min(2.0**step, 300.0)
        found = [each.failed() for each in pauses]
        assert 0.8 * expected <= min(found) < 0.9 * expected
        assert 1.1 * expected < max(found) <= 1.2 * expected


def test_a_success_begins_anew():
    pauses = Backoff(random.Random(1))
    for _ in range(10_000):  # years of trouble overflow nothing
        pauses.failed()
    pauses.succeeded()
    assert pauses.failed() <= 1.2


@pytest.mark.parametrize(("asked", "least", "most"), [(0.0, 0.8, 1.2), (60.0, 60.0, 72.0), (1e9, 3600.0, 4320.0)])
def test_a_server_is_given_the_time_that_it_asks_for_within_reason(asked, least, most):
    for seed in range(50):
        assert least <= Backoff(random.Random(seed)).failed(asked) <= most


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_these_do_not_get_better_by_being_repeated(status):
    assert is_final(ServerRefusalError(status, "x", "x"))


def test_trouble_of_the_server_passes_and_of_this_machine_waits_for_the_interval():
    assert not is_final(ServerUnavailableError("x"))
    assert not is_final(ServerRefusalError(410, "gone", "x"))
    assert is_final(BaselineStoreError("disk"))
    assert is_final(OSError(5, "disk"))
    assert retry_after(ServerUnavailableError("x", retry_after_seconds=7.0)) == 7.0
    assert retry_after(OSError(5, "disk")) == 0.0

"""What the process allows itself before it serves."""

import resource

import pytest

from eguard.server import service

INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((1024, 20_000), (12_048, 20_000)), ((1024, 4096), (4096, 4096)), ((1024, INFINITE), (12_048, INFINITE))],
    ids=["as many as wanted", "as many as allowed", "no limit above"],
)
def test_the_limit_of_open_files_is_raised_for_the_connections(monkeypatch, limits, expected):
    said = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, values: said.append(values))
    service._allow_files(10_000)
    assert said == [expected]


def test_a_limit_that_is_high_enough_is_left_alone(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (INFINITE, INFINITE))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("it was enough"))
    service._allow_files(10_000)

import os
import socket

import pytest

from eguard.sensor import listeners
from eguard.sensor.listeners import Listeners


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(listeners, "oldest_holders", lambda _: {})
    return Listeners()


def test_the_exact_address_is_preferred_and_then_whoever_listened_last_at_any(known):
    known.started(80, "0.0.0.0", 10)
    known.started(80, "::", 11)
    known.started(80, "10.0.0.1", 12)
    assert [known.find(80, address) for address in ("10.0.0.1", "10.0.0.2")] == [12, 11]
    known.ended(80, "::", 11)
    assert known.find(80, "10.0.0.2") == 10
    known.ended(80, "0.0.0.0", 10)
    known.ended(80, "10.0.0.1", 12)
    assert known.find(80, "10.0.0.1") == 0


def test_a_port_that_ends_unheard_of_is_no_trouble(known):
    known.ended(81, "::", 5)
    assert known.find(81, "::") == 0


def test_a_process_that_listens_again_and_again_takes_no_room(known):
    for pid in range(1000):
        known.started(80, "0.0.0.0", pid)
        known.started(80, "0.0.0.0", pid)
    assert known.find(80, "10.0.0.1") == 999
    assert len(known._by_port[80]) == 8


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")])
def test_a_socket_that_listened_before_is_found_in_proc(family, address):
    with socket.create_server((address, 0), family=family) as server:
        assert Listeners().find(server.getsockname()[1], "127.0.0.1") == os.getpid()


def test_proc_is_not_read_for_every_connection_to_an_unknown_port(monkeypatch):
    scans = []
    monkeypatch.setattr(Listeners, "scan", lambda self: scans.append(1) or setattr(self, "_next_scan", float("inf")))
    table = Listeners()
    assert [table.find(9, "::") for _ in range(50)] == [0] * 50
    assert len(scans) == 1

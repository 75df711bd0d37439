import ipaddress
import os
import socket
import sys
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.sensor import open_connections
from eguard.sensor.open_connections import (
    NewConnection,
    ProcConnections,
    PsutilConnections,
    begun_connections,
    parse_sockets,
)

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")

ESTABLISHED, FIN_WAIT2, TIME_WAIT, CLOSE_WAIT, LISTEN = "01", "05", "06", "08", "0A"
SNMP = "Ip: Forwarding\nIp: 1\nTcp: RtoMin ActiveOpens PassiveOpens\nTcp: 200 {} 9\nUdp: InDatagrams\nUdp: 1\n"


def _hex(address, port):
    """Write an end as the kernel of this machine does: each four bytes as one of its numbers."""
    raw = ipaddress.ip_address(address).packed
    words = (int.from_bytes(raw[at : at + 4], sys.byteorder) for at in range(0, len(raw), 4))
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


def _line(local, remote, state=ESTABLISHED, inode=7):
    return (
        f"   0: {_hex(*local)} {_hex(*remote)} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1"
    )


class Tables:
    """A folder such as /proc/net, in which the count of begun connections rises with each writing."""

    def __init__(self, folder):
        self.folder = folder
        self.begun = 0

    def write(self, *lines, table="tcp", begun=1):
        (self.folder / table).write_text("\n".join(["  sl  local_address ...", *lines, ""]))
        self.begun += begun
        (self.folder / "snmp").write_text(SNMP.format(self.begun))


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.setattr(open_connections, "first_holders", lambda inodes, _: {inode: 1000 + inode for inode in inodes})
    return Tables(tmp_path)


US, THEM, OTHERS = ("10.0.0.1", 40_000), ("93.184.216.34", 443), ("1.1.1.1", 853)


def test_a_connection_is_new_once(tables):
    connections = ProcConnections(tables.folder)
    tables.write(_line(US, THEM))
    assert connections.compare() == [NewConnection(1007, *THEM)]
    tables.write(_line(US, THEM), _line(("10.0.0.1", 40_001), OTHERS, inode=8))
    assert connections.compare() == [NewConnection(1008, *OTHERS)]
    tables.write(_line(US, THEM))
    assert connections.compare() == []


def test_the_tables_are_read_only_when_a_connection_was_begun(tables):
    connections = ProcConnections(tables.folder)
    tables.write()
    assert connections.compare() == []
    tables.write(_line(US, THEM), begun=0)
    assert connections.compare() == []
    tables.write(_line(US, THEM))
    assert connections.compare() == [NewConnection(1007, *THEM)]


def test_without_the_count_the_tables_are_read_at_every_look(tables):
    connections = ProcConnections(tables.folder)
    tables.write(_line(US, THEM))
    (tables.folder / "snmp").unlink()
    assert connections.compare() == [NewConnection(1007, *THEM)]
    (tables.folder / "tcp").write_text("header\n" + _line(US, OTHERS, inode=8))
    assert connections.compare() == [NewConnection(1008, *OTHERS)]


def test_without_tables_there_is_nothing_new(tmp_path):
    assert ProcConnections(tmp_path).compare() == []


@pytest.mark.parametrize("state", [FIN_WAIT2, CLOSE_WAIT])
def test_the_end_of_a_connection_is_no_new_one(tables, state):
    connections = ProcConnections(tables.folder)
    tables.write(_line(US, THEM))
    connections.compare()
    tables.write(_line(US, THEM, state, inode=0))
    assert connections.compare() == []
    tables.write(_line(US, THEM, state, inode=0))
    assert connections.compare() == []


def test_a_connection_of_which_only_the_end_is_seen_is_new_and_nobodys(tables):
    tables.write(_line(US, THEM, FIN_WAIT2, inode=0), _line(US, OTHERS, TIME_WAIT, inode=0))
    assert ProcConnections(tables.folder).compare() == [NewConnection(0, *THEM)]


def test_another_socket_between_the_same_ends_is_new(tables):
    connections = ProcConnections(tables.folder)
    for inode in (7, 0, 7):
        tables.write(_line(US, THEM, inode=inode))
        connections.compare()
    tables.write(_line(US, THEM, inode=8))
    assert connections.compare() == [NewConnection(1008, *THEM)]


def test_what_came_in_is_not_new_also_when_nobody_listens_any_more(tables):
    connections = ProcConnections(tables.folder)
    listening = _line(("::", 40_000), ("::", 0), LISTEN, inode=5)
    tables.write(listening, table="tcp6", begun=0)
    tables.write(_line(US, THEM))
    assert connections.compare() == []
    tables.write(table="tcp6")
    assert connections.compare() == []


def test_damaged_lines_are_passed_over(tables):
    tables.write("", "   0: 0100007F", _line(US, THEM))
    assert ProcConnections(tables.folder).compare() == [NewConnection(1007, *THEM)]


@given(st.ip_addresses(), st.integers(0, 65_535), st.integers(1, 2**32))
def test_every_address_is_read_as_the_kernel_writes_it(address, port, inode):
    [found] = parse_sockets(("header\n" + _line(US, (str(address), port), inode=inode)).encode())
    read, read_port = found.remote()
    assert (ipaddress.ip_address(read), read_port, found.inode) == (address, port, inode)


@pytest.mark.parametrize(
    "text", [b"", b"Tcp: ActiveOpens\n", b"Tcp: RtoMin\nTcp: 200\n", b"Tcp: ActiveOpens\nTcp: x\n"]
)
def test_counts_that_do_not_say_how_many_were_begun_give_none(text):
    assert begun_connections(text) is None


def _forms():
    return [ProcConnections(), PsutilConnections(pytest.importorskip("psutil"))]


@linux_only
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_both_forms_find_a_connection_of_this_process_and_not_that_it_came_in(family, host):
    forms = _forms()
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        for each in forms:
            each.compare()
        with socket.create_connection((host, port)) as client:
            accepted, _ = server.accept()
            ports = {port, client.getsockname()[1]}
            found = [[new for new in each.compare() if new.port in ports] for each in forms]
            assert found == [[NewConnection(os.getpid(), host, port)]] * 2
            assert [new for each in forms for new in each.compare() if new.port in ports] == []
            accepted.close()


class Address(NamedTuple):
    ip: str
    port: int


def _psutil(listed):
    def net_connections(kind):
        assert kind == "tcp"
        if listed is None:
            raise PermissionError
        return listed

    return SimpleNamespace(Error=RuntimeError, net_connections=net_connections)


def test_what_psutil_is_refused_is_nothing_new():
    assert PsutilConnections(_psutil(None)).compare() == []


def test_a_connection_that_outlives_its_process_is_not_new_again():
    ends = {"laddr": Address(*US), "raddr": Address(*THEM)}
    listed = [SimpleNamespace(pid=12, status="ESTABLISHED", **ends)]
    connections = PsutilConnections(_psutil(listed))
    assert connections.compare() == [NewConnection(12, *THEM)]
    listed[0] = SimpleNamespace(pid=None, status="FIN_WAIT2", **ends)
    assert connections.compare() == []

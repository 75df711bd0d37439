"""What passes and what does not, with real packets between three hosts."""

import socket
import struct
import threading
import time
from contextlib import suppress

import pytest

pytestmark = pytest.mark.xdist_group("isolation")
SERVERS = ["10.77.1.2:8443", "[fd77:1::2]:8443"]
PORT, OTHER_PORT, AGENT_PORT = 8443, 9000, 7000
BOTH = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


def at(host, family):
    return host.addresses[family == 6]


def echoes(connection, wait=2.0):
    connection.settimeout(wait)
    try:
        connection.sendall(b"ping")
        return connection.recv(16) == b"ping"
    except OSError:
        return False


def everything(network, family, wait=0.15):
    """Return what reaches what, as a set of names."""
    agent, server, peer = network.hosts
    tries = {
        "server": (agent, at(server, family), PORT),
        "server's other port": (agent, at(server, family), OTHER_PORT),
        "peer": (agent, at(peer, family), PORT),
        "agent from server": (server, at(agent, family), AGENT_PORT),
        "agent from peer": (peer, at(agent, family), AGENT_PORT),
        "through agent to server": (peer, at(server, family), PORT),
        "through agent to peer": (server, at(peer, family), PORT),
        "own address": (agent, at(agent, family), AGENT_PORT),
        "loopback": (agent, "::1" if family == 6 else "127.0.0.1", AGENT_PORT),
    }
    return {name for name, (source, address, port) in tries.items() if source.reaches(address, port, wait=wait)}


ALL = {
    "server",
    "server's other port",
    "peer",
    "agent from server",
    "agent from peer",
    "through agent to server",
    "through agent to peer",
    "own address",
    "loopback",
}


@BOTH
def test_isolate_and_allow(network, agent, isolation, family):
    assert everything(network, family, wait=2.0) == ALL
    isolation.isolate(SERVERS)
    assert everything(network, family) == {"server", "own address", "loopback"}
    isolation.allow()
    assert everything(network, family, wait=2.0) == ALL
    assert agent.ruleset() == ""


@BOTH
def test_server_of_one_family_leaves_nothing_open_in_the_other(network, isolation, family):
    isolation.isolate([SERVERS[family == 4]])
    assert everything(network, family) == {"own address", "loopback"}


@BOTH
@pytest.mark.parametrize("loose", ["1", "0"], ids=["loose-tracking", "strict-tracking"])
def test_connections_to_the_peer_are_cut_and_the_control_channel_lives(network, agent, isolation, family, loose):
    agent.set_kernel("netfilter/nf_conntrack_tcp_loose", loose)
    agent.nft("table inet tracking { chain c { type filter hook input priority 0; ct state new counter; }; }\n")
    peer, server = agent.connect(at(network.peer, family), PORT), agent.connect(at(network.server, family), PORT)
    inbound = network.peer.connect(at(agent, family), AGENT_PORT)
    with peer, server, inbound:
        assert echoes(peer)
        assert echoes(server)
        assert echoes(inbound)
        isolation.isolate(SERVERS)
        assert echoes(server)
        assert not echoes(peer, 0.4)
        assert not echoes(inbound, 0.4)
    agent.set_kernel("netfilter/nf_conntrack_tcp_loose", "1")


def test_control_channel_lives_where_nothing_was_tracked_before(network, agent, isolation):
    with agent.connect(at(network.server, 4), PORT) as channel:
        assert echoes(channel)
        isolation.isolate(SERVERS)
        assert echoes(channel, 5.0)


def test_neighbours_are_found_while_isolated(network, agent, isolation):
    isolation.isolate(SERVERS)
    for host in network.hosts:
        host.run("ip", "neigh", "flush", "all")
    assert agent.reaches(at(network.server, 6), PORT, wait=3.0)
    assert agent.reaches(at(network.server, 4), PORT, wait=3.0)


def test_what_is_dropped_is_counted(network, agent, isolation):
    isolation.isolate(SERVERS)
    with agent.socket(4, socket.SOCK_DGRAM) as out, network.peer.socket(4, socket.SOCK_DGRAM) as peer:
        for _ in range(5):
            with suppress(PermissionError):
                out.sendto(b"x", (at(network.peer, 4), 5000))
            peer.sendto(b"x", (at(agent, 4), 5000))
            peer.sendto(b"x", (at(network.server, 4), 5000))
    dropped = isolation.status().inspection.dropped
    assert {hook: counts["packets"] >= 5 for hook, counts in dropped.items()} == dict.fromkeys(dropped, True)
    assert dropped["output"]["bytes"] >= 5 * 29


def test_rules_of_others_are_untouched_and_cannot_open_anything(network, agent, isolation):
    agent.nft(
        "table inet others {\n set s {\n type ipv4_addr\n elements = { 192.0.2.1 }\n }\n"
        " chain early {\n type filter hook output priority -390; policy accept;\n accept\n }\n"
        " chain late {\n type filter hook input priority 300; policy accept;\n accept\n }\n}\n"
        "table ip nat {\n chain out {\n type nat hook postrouting priority 100; policy accept;\n }\n}\n"
        "table ip6 eguard_isolation {\n chain x {\n type filter hook input priority 0; policy accept;\n }\n}\n"
    )
    before = agent.ruleset("-a")
    isolation.isolate(SERVERS)
    assert before in agent.ruleset("-a")
    assert everything(network, 4) == {"server", "own address", "loopback"}
    isolation.allow()
    assert agent.ruleset("-a") == before


def test_dhcp_leases_are_renewed(network, agent, isolation):
    isolation.isolate(SERVERS)
    with agent.socket(4, socket.SOCK_DGRAM) as client, network.server.socket(4, socket.SOCK_DGRAM) as server:
        client.bind(("", 68))
        server.bind(("", 67))
        client.sendto(b"request", (at(network.server, 4), 67))
        data, sender = server.recvfrom(100)
        assert data == b"request"
        server.sendto(b"ack", sender)
        assert client.recv(100) == b"ack"
        with agent.socket(4, socket.SOCK_DGRAM) as other, pytest.raises(PermissionError):
            other.sendto(b"smuggled", (at(network.server, 4), 67))


def question(name, kind=1, extra=b"", flags=0x0100, counts=(1, 0, 0, 0)):
    labels = b"".join(bytes([len(label)]) + label for label in name.encode().split(b"."))
    return struct.pack(">HH4H", 7, flags, *counts) + labels + b"\0" + struct.pack(">HH", kind, 1) + extra


EDNS = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 12) + struct.pack(">HH", 10, 8) + b"cookie12"
QUESTIONS = {
    "a": (question("server.example"), True),
    "aaaa": (question("server.example", 28), True),
    "with-edns": (question("server.example", extra=EDNS, counts=(1, 0, 0, 1)), True),
    "search-domain": (question("server.example.corp.example"), True),
    "other-name": (question("c2.attacker.example"), False),
    "subdomain": (question("c2rldA.server.example"), False),
    "longer-name": (question("server.example.attacker.example"), False),
    "same-length": (question("server.examplf"), False),
    "upper-case": (question("SERVER.example"), False),
    "txt": (question("server.example", 16), False),
    "any": (question("server.example", 255), False),
    "padded": (question("server.example", extra=b"x" * 65), False),
    "answer": (question("server.example", flags=0x8180), False),
    "update": (question("server.example", flags=0x2800), False),
    "two-questions": (question("server.example", counts=(2, 0, 0, 0)), False),
    "with-answer": (question("server.example", counts=(1, 1, 0, 0)), False),
    "short": (b"x" * 12, False),
    "empty": (b"", False),
}


@pytest.fixture
def named(network, agent, tmp_path):
    """Return an agent isolated to a name, with the server as its resolver."""
    from ipaddress import ip_address

    from eguard.agent.isolation import HostIsolation, Nft, RequestFile
    from eguard.agent.isolation.resolvers import ResolverConfiguration

    resolvers = tuple(map(ip_address, network.server.addresses))
    host = HostIsolation(
        Nft(),
        RequestFile(tmp_path / "nac"),
        lookup=lambda _: network.server.addresses,
        configuration=lambda: ResolverConfiguration(resolvers, ("corp.example",)),
    )
    with agent.inside():
        host.isolate(["server.example:8443"])
    return agent


@BOTH
def test_dns_carries_the_servers_name_and_nothing_else(network, named, family):
    passed = {}
    with (
        named.socket(family, socket.SOCK_DGRAM) as client,
        network.server.socket(family, socket.SOCK_DGRAM) as resolver,
    ):
        resolver.bind(("", 53))
        for name, (message, _) in QUESTIONS.items():
            try:
                client.sendto(message, (at(network.server, family), 53))
            except PermissionError:
                passed[name] = False
                continue
            data, sender = resolver.recvfrom(1000)
            resolver.sendto(b"answer", sender)
            passed[name] = (data, client.recv(100)) == (message, b"answer")
    assert passed == {name: passes for name, (_, passes) in QUESTIONS.items()}


@BOTH
def test_dns_goes_to_no_other_resolver_and_not_over_tcp(network, named, family):
    with named.socket(family, socket.SOCK_DGRAM) as client, pytest.raises(PermissionError):
        client.sendto(QUESTIONS["a"][0], (at(network.peer, family), 53))
    assert not named.reaches(at(network.server, family), 53)


@BOTH
def test_server_may_answer_and_not_begin(network, agent, isolation, family):
    isolation.isolate(["10.77.1.2:8555", "[fd77:1::2]:8555"])
    with network.server.socket(family) as caller:
        caller.bind(("", 8555))
        caller.settimeout(0.2)
        with pytest.raises(TimeoutError):
            caller.connect((at(agent, family), AGENT_PORT))


@BOTH
def test_resolver_cannot_speak_unasked(network, named, family):
    with (
        named.socket(family, socket.SOCK_DGRAM) as listener,
        network.server.socket(family, socket.SOCK_DGRAM) as caller,
    ):
        listener.bind(("", 6000))
        listener.settimeout(0.2)
        caller.bind(("", 53))
        caller.sendto(b"command", (at(named, family), 6000))
        with pytest.raises(TimeoutError):
            listener.recv(100)


def test_dns_questions_are_few(network, named):
    with named.socket(4, socket.SOCK_DGRAM) as client, network.server.socket(4, socket.SOCK_DGRAM) as resolver:
        resolver.bind(("", 53))
        sent, started = 0, time.monotonic()
        for _ in range(200):
            with suppress(PermissionError):
                client.sendto(QUESTIONS["a"][0], (at(network.server, 4), 53))
                sent += 1
    assert 10 <= sent <= 25 + 11 * (time.monotonic() - started)


def test_there_is_never_a_moment_with_half_of_the_rules(network, agent, isolation):
    """While whole tables and single sets are exchanged, nothing of a constant stream gets out."""
    isolation.isolate(SERVERS)
    stop, sent = threading.Event(), []
    with network.peer.socket(4, socket.SOCK_DGRAM) as peer, agent.socket(4, socket.SOCK_DGRAM) as out:
        peer.bind(("", 5000))
        peer.settimeout(0.2)

        def stream():
            while not stop.is_set():
                with suppress(PermissionError):
                    sent.append(out.sendto(b"leak", (at(network.peer, 4), 5000)))
                time.sleep(0)

        thread = threading.Thread(target=stream)
        thread.start()
        try:
            for number in range(8):
                isolation.isolate([*SERVERS, f"192.0.2.{number + 1}:1"])
                agent.run("nft", "flush", "chain", "inet", "eguard_isolation", "record")
                assert isolation.isolate().action == "isolated"
        finally:
            stop.set()
            thread.join()
        assert sent == []
        with pytest.raises(TimeoutError):
            peer.recv(10)
    assert isolation.status().inspection.dropped["output"]["packets"] > 100

"""What passes as a server, and everything that does not."""

import socket
from ipaddress import ip_address

import pytest

from eguard.agent.isolation.targets import Server, parse_address, parse_name, parse_server, resolve
from eguard.errors import ConfigError, IsolationError

HOSTILE = {
    "ends-the-set": "10.0.0.1 }; flush ruleset; #:443",
    "semicolon": "server;flush ruleset:443",
    "newline": "server\nflush ruleset\n:443",
    "newline-after-port": "server:443\nflush ruleset",
    "final-newline": "server:443\n",
    "quote": 'server" accept comment ":443',
    "include": 'include "/etc/shadow":443',
    "variable": "$server:443",
    "define": "define x = 1:443",
    "brace": "{ 0.0.0.0/0 }:443",
    "prefix": "0.0.0.0/0:443",
    "range": "10.0.0.1-10.255.255.255:443",
    "wildcard": "*:443",
    "set-reference": "@server_v4:443",
    "comment": "server#:443",
    "backslash": "server\\:443",
    "nul": "server\0:443",
    "escape": "server\x1b[2J:443",
    "space": "server name:443",
    "tab": "server\t:443",
    "option": "-f:443",
    "long-option": "--help:443",
    "underflow-label": "server..example:443",
    "leading-dot": ".server:443",
    "hyphen-first": "-server.example:443",
    "hyphen-last": "server-.example:443",
    "long-label": "a" * 64 + ".example:443",
    "long-name": ".".join(["a" * 60] * 5) + ":443",
    "cyrillic": "s\u0435rver.example:443",
    "fullwidth-digits": "server:\uff14\uff14\uff13",
    "arabic-digits": "server:\u0664\u0664\u0663",
    "kelvin-sign": "\u212a.example:443",
    "surrogate": "\udcff:443",
    "port-zero": "server:0",
    "port-high": "server:65536",
    "port-signed": "server:+443",
    "port-negative": "server:-1",
    "port-range": "server:1-65535",
    "port-list": "server:80,443",
    "port-blank": "server:",
    "port-long": "server:000443",
    "port-underscore": "server:4_4",
    "no-port": "server",
    "no-host": ":443",
    "empty": "",
    "unbracketed-ipv6": "2001:db8::1:443",
    "bracketed-ipv4": "[192.0.2.1]:443",
    "bracketed-name": "[server]:443",
    "zone": "[fe80::1%eth0]:443",
    "zone-injection": "[2001:db8::1%x }; flush ruleset]:443",
    "link-local": "[fe80::1]:443",
    "octal-ipv4": "010.0.0.1:443",
    "short-ipv4": "10.1:443",
    "integer-ipv4": "167772161:443",
    "hex-ipv4": "0xa000001:443",
    "hex-last-label": "10.0.0.0x1:443",
    "five-octets": "1.2.3.4.5:443",
    "any-ipv4": "0.0.0.0:443",
    "any-ipv6": "[::]:443",
    "broadcast": "255.255.255.255:443",
    "multicast-ipv4": "224.0.0.1:443",
    "multicast-ipv6": "[ff02::1]:443",
    "mapped-any": "[::ffff:0.0.0.0]:443",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_server_is_refused_with_a_remedy(text):
    with pytest.raises(ConfigError) as refused:
        parse_server(text)
    assert "HOST:PORT" in refused.value.remedy
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    ("text", "host", "port", "is_name"),
    [
        ("server:1", "server", 1, True),
        ("Server-1.EXAMPLE.:65535", "server-1.example", 65535, True),
        ("_eguard._tcp.example:443", "_eguard._tcp.example", 443, True),
        ("xn--bcher-kva.example:443", "xn--bcher-kva.example", 443, True),
        ("192.0.2.7:8443", "192.0.2.7", 8443, False),
        ("[2001:DB8:0:0::7]:8443", "2001:db8::7", 8443, False),
        ("[::ffff:192.0.2.7]:8443", "192.0.2.7", 8443, False),
        ("127.0.0.1:80", "127.0.0.1", 80, False),
    ],
)
def test_ordinary_server_is_taken_in_its_canonical_form(text, host, port, is_name):
    server = parse_server(text)
    assert (server, server.is_name) == (Server(host, port), is_name)
    assert parse_server(str(server)) == server


def test_name_of_253_characters_is_the_longest():
    longest = ".".join(["a" * 63] * 3 + ["a" * 61])
    assert len(longest) == 253
    assert parse_name(longest) == longest
    with pytest.raises(ConfigError):
        parse_name(longest + "a")


@pytest.mark.parametrize("text", ["server", "0.0.0.0", "::", "ff02::1", "fe80::1", "1.2.3.4/32", "1.2.3.4 ", ""])
def test_only_one_hosts_address_is_an_address(text):
    with pytest.raises(ConfigError):
        parse_address(text)


def test_addresses_are_unique_sorted_and_usable():
    answers = ["2001:db8::2", "192.0.2.10", "192.0.2.9", "192.0.2.9", "fe80::1%eth0", "0.0.0.0", "::ffff:192.0.2.8"]
    found = resolve(Server("server", 1), lambda _: answers)
    assert [str(address) for address in found] == ["192.0.2.8", "192.0.2.9", "192.0.2.10", "2001:db8::2"]


def test_address_is_never_looked_up():
    def refuse(name):
        raise AssertionError(name)

    assert resolve(Server("192.0.2.7", 1), refuse) == (ip_address("192.0.2.7"),)


def test_a_resolver_that_answers_with_half_the_internet_is_cut_off():
    assert len(resolve(Server("server", 1), lambda _: [f"10.0.{i // 250}.{i % 250 + 1}" for i in range(1000)])) == 64


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
        (UnicodeError("label too long"), "label too long"),
        ([], "(none)"),
        (["0.0.0.0", "ff02::1"], "0.0.0.0, ff02::1"),
        (["fe80::1%eth0"], "fe80::1%eth0"),
        (["192.0.2.1 }; flush ruleset"], "cannot be connected to"),
    ],
    ids=["unknown", "unreachable", "unicode", "nothing", "unusable", "link-local", "hostile-answer"],
)
def test_name_without_a_usable_address_says_why_and_what_to_do(answer, cause):
    def lookup(name):
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(IsolationError) as failed:
        resolve(Server("server.example", 8443), lookup)
    assert cause in failed.value.message
    assert "--server" in failed.value.remedy

import pytest

from eguard.agent.isolation.resolvers import parse_resolv_conf, parse_resolver, questions, read_resolvers
from eguard.errors import ConfigError


def texts(configuration):
    return [str(resolver) for resolver in configuration.resolvers]


def test_a_host_without_resolv_conf_has_no_resolver(tmp_path):
    assert read_resolvers(tmp_path / "none", tmp_path / "neither").resolvers == ()


def test_servers_behind_a_local_stub_are_found_where_it_writes_them(tmp_path):
    (tmp_path / "stub").write_text("nameserver 127.0.0.53\noptions edns0\n")
    (tmp_path / "upstream").write_text("nameserver 192.0.2.53\nsearch corp.example\n")
    found = read_resolvers(tmp_path / "stub", tmp_path / "upstream")
    assert texts(found) == ["127.0.0.53", "192.0.2.53"]
    assert found.search == ("corp.example",)


def test_servers_behind_nothing_local_are_not_asked_for(tmp_path):
    (tmp_path / "plain").write_text("nameserver 192.0.2.1\n")
    (tmp_path / "upstream").write_text("nameserver 192.0.2.53\n")
    assert texts(read_resolvers(tmp_path / "plain", tmp_path / "upstream")) == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("text", "resolvers", "search"),
    [
        ("# nameserver 192.0.2.1\n; nameserver 192.0.2.2\n", [], ()),
        ("nameserver\nnameserver }; flush ruleset\nnameserver 0.0.0.0\nnameserver 192.0.2.1\n", ["192.0.2.1"], ()),
        ("nameserver 192.0.2.1\nnameserver 192.0.2.1\n", ["192.0.2.1"], ()),
        ("domain old.example\nsearch new.example ; . corp\n", [], ("new.example", "corp")),
        ("nameserver 2001:DB8::53\n", ["2001:db8::53"], ()),
        ("".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 40)), [f"192.0.2.{n}" for n in range(1, 17)], ()),
    ],
    ids=["comments", "unreadable-lines", "twice", "last-search-counts", "ipv6", "bounded"],
)
def test_resolv_conf_is_read_like_the_c_library_does(text, resolvers, search):
    found = parse_resolv_conf(text)
    assert (texts(found), found.search) == (resolvers, search)


@pytest.mark.parametrize("text", ["dns.example", "", "0.0.0.0", "192.0.2.53 }", "224.0.0.251"])
def test_a_resolver_is_an_address(text):
    with pytest.raises(ConfigError, match="resolver"):
        parse_resolver(text)


def test_every_search_domain_makes_a_question():
    assert questions(["b", "a"], ["x", "y.z"]) == ("a", "a.x", "a.y.z", "b", "b.x", "b.y.z")


def test_names_beyond_the_kernels_comparison_make_no_question():
    fits, too_long = ".".join(["a" * 49] * 4), ".".join(["a" * 50] * 4)
    assert (len(fits), len(too_long)) == (199, 203)
    assert questions([fits, too_long]) == (fits,)

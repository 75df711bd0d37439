"""What isolate, restore, allow and status do to file and kernel, and in which order."""

from ipaddress import ip_address

import pytest

from eguard.agent.isolation.resolvers import ResolverConfiguration
from eguard.errors import ConfigError, IsolationError, IsolationUnavailableError


def test_twice_is_like_once(workplace):
    first = workplace.host.isolate(["server.example:8443"], by="alice")
    kept = workplace.file.path.read_bytes()
    workplace.clock.advance_to(1_790_000_100.0)
    second = workplace.host.isolate(["server.example:8443"], by="bob")
    assert (first.action, second.action) == ("isolated", "unchanged")
    assert first.inspection == second.inspection
    assert len(workplace.filter.loads) == 1
    assert workplace.file.path.read_bytes() == kept


def test_changed_addresses_exchange_the_sets_and_keep_since_and_counters(workplace):
    workplace.host.isolate(["server.example:8443"], by="alice")
    workplace.filter.find("counter", "dropped_input").update(packets=5, bytes=300)
    workplace.clock.advance_to(1_790_000_100.0)
    workplace.names["server.example"] = ["192.0.2.8"]
    outcome = workplace.host.isolate(by="bob")
    assert outcome.action == "addresses_updated"
    assert outcome.inspection.servers == ("192.0.2.8:8443",)
    assert (outcome.inspection.since_unix, outcome.inspection.requested_by) == (1_790_000_000, "alice")
    assert outcome.inspection.dropped["input"] == {"packets": 5, "bytes": 300}
    assert workplace.file.read().servers[0].addresses == ("192.0.2.8",)


def test_replaced_rules_carry_the_counters_on(workplace):
    workplace.host.isolate(["server.example:8443"])
    workplace.filter.find("counter", "dropped_output").update(packets=9, bytes=540)
    assert workplace.host.isolate(["192.0.2.9:1"]).inspection.dropped["output"] == {"packets": 9, "bytes": 540}


def test_address_needs_no_dns(workplace):
    found = workplace.host.isolate(["192.0.2.9:1"]).inspection
    assert (found.resolvers, found.questions) == ((), ())


def test_given_resolvers_replace_the_hosts_own(workplace):
    found = workplace.host.isolate(["server.example:1"], ["198.51.100.53", "2001:db8::53"]).inspection
    assert found.resolvers == ("198.51.100.53", "2001:db8::53")


@pytest.mark.parametrize(
    ("resolvers", "said"),
    [((), "no DNS resolver"), ((ip_address("127.0.0.1"),), "only resolver is on this host")],
    ids=["none", "local"],
)
def test_names_that_cannot_be_looked_up_later_are_said(workplace, resolvers, said):
    workplace.configuration = ResolverConfiguration(resolvers)
    outcome = workplace.host.isolate(["server.example:1"])
    assert said in outcome.warnings[0]
    assert outcome.inspection.resolvers == ()


def test_name_too_long_for_a_rule_is_said(workplace):
    name = ".".join(["a" * 60] * 4)
    workplace.names[name] = ["192.0.2.7"]
    outcome = workplace.host.isolate([f"{name}:1"])
    assert "too long for a DNS rule" in outcome.warnings[0]
    assert outcome.inspection.questions == ()


def test_unknown_name_changes_nothing(workplace):
    with pytest.raises(IsolationError, match="does not resolve"):
        workplace.host.isolate(["server.example:1", "unknown.example:1"])
    assert (workplace.filter.entries, workplace.file.read()) == (None, None)


def test_name_that_no_longer_resolves_keeps_its_addresses(workplace):
    workplace.host.isolate(["server.example:8443"])
    workplace.names.clear()
    outcome = workplace.host.isolate(["server.example:8443"])
    assert outcome.action == "unchanged"
    assert "stay in force" in outcome.warnings[0]


def test_without_a_server_there_must_be_a_request(workplace):
    with pytest.raises(ConfigError, match="no server") as missing:
        workplace.host.isolate()
    assert "--server" in missing.value.remedy
    with pytest.raises(ConfigError, match="no server"):
        workplace.host.plan([])


@pytest.mark.parametrize(("servers", "resolvers"), [(33, 0), (1, 17)])
def test_lists_are_bounded(workplace, servers, resolvers):
    with pytest.raises(ConfigError, match="more than"):
        workplace.host.isolate(
            [f"192.0.2.{n + 1}:1" for n in range(servers)], [f"198.51.100.{n + 1}" for n in range(resolvers)]
        )


def test_plan_touches_nothing(workplace):
    script = workplace.host.plan(["server.example:8443"], by="alice")
    assert "192.0.2.7 . 8443" in script
    assert not workplace.file.folder.exists()
    assert workplace.filter.loads == []
    workplace.host.isolate(["server.example:8443"], by="alice")
    assert workplace.filter.loads == [script]


@pytest.mark.parametrize("step", ["refuses_check", "refuses_load"])
def test_kernel_that_refuses_leaves_no_request(workplace, step):
    setattr(workplace.filter, step, True)
    with pytest.raises(IsolationUnavailableError):
        workplace.host.isolate(["192.0.2.9:1"])
    assert workplace.file.read() is None


@pytest.mark.parametrize("step", ["refuses_check", "refuses_load"])
def test_kernel_that_refuses_leaves_the_earlier_request(workplace, step):
    workplace.host.isolate(["192.0.2.9:1"])
    setattr(workplace.filter, step, True)
    with pytest.raises(IsolationUnavailableError):
        workplace.host.isolate(["server.example:1"])
    assert [pinned.server for pinned in workplace.file.read().servers] == ["192.0.2.9:1"]


def test_request_is_on_disk_before_the_kernel_changes(workplace):
    seen = []
    real = workplace.filter.load
    workplace.filter.load = lambda script: (seen.append(workplace.file.read()), real(script))
    workplace.host.isolate(["192.0.2.9:1"])
    assert seen[0].servers[0].server == "192.0.2.9:1"


def test_rules_that_do_not_stay_are_an_error(workplace):
    workplace.filter.load = lambda _: None
    with pytest.raises(IsolationError, match="not_isolated"):
        workplace.host.isolate(["192.0.2.9:1"])


def test_restore_uses_addresses_on_file_and_looks_nothing_up(workplace):
    workplace.host.isolate(["server.example:8443"], by="alice")
    before = workplace.filter.read()
    workplace.filter.entries = None
    workplace.names.clear()
    workplace.clock.advance_to(1_790_000_500.0)
    outcome = workplace.host.restore()
    assert (outcome.action, outcome.inspection.state) == ("isolated", "isolated")
    assert workplace.filter.read().sets == before.sets
    assert (outcome.inspection.since_unix, outcome.inspection.requested_by) == (1_790_000_500, "alice")
    assert workplace.host.restore().action == "unchanged"


def test_restore_without_a_request_does_nothing(workplace):
    outcome = workplace.host.restore()
    assert (outcome.action, workplace.filter.loads) == ("nothing_to_do", [])


def test_restore_of_a_damaged_request_is_an_error_and_changes_nothing(workplace):
    workplace.host.isolate(["192.0.2.9:1"])
    workplace.file.path.write_text("{")
    with pytest.raises(IsolationError, match="damaged"):
        workplace.host.restore()
    assert len(workplace.filter.loads) == 1


def test_isolating_over_a_damaged_request_replaces_it_and_says_so(workplace):
    workplace.host.isolate(["192.0.2.9:1"])
    workplace.file.path.write_text("{")
    assert "replaced" in workplace.host.isolate(["192.0.2.9:1"]).warnings[0]
    assert workplace.file.read() is not None


def test_damaged_request_without_a_server_says_why(workplace):
    workplace.host.isolate(["192.0.2.9:1"])
    workplace.file.path.write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        workplace.host.isolate()


def test_allow_removes_table_and_request_even_if_damaged(workplace):
    workplace.host.isolate(["192.0.2.9:1"])
    workplace.file.path.write_text("{")
    outcome = workplace.host.allow()
    assert (outcome.action, outcome.inspection.state) == ("allowed", "not_isolated")
    assert workplace.file.read() is None
    assert workplace.host.allow().action == "nothing_to_do"


def test_allow_that_fails_keeps_the_request(workplace):
    workplace.host.isolate(["192.0.2.9:1"])
    workplace.filter.refuses_load = True
    with pytest.raises(IsolationUnavailableError):
        workplace.host.allow()
    assert workplace.file.read() is not None


def test_status_of_an_ordinary_host_and_of_an_isolated_one(workplace):
    standing = workplace.host.status()
    assert (standing.inspection.state, standing.request, standing.disagreements) == ("not_isolated", None, ())
    workplace.host.isolate(["server.example:8443"])
    standing = workplace.host.status()
    assert (standing.inspection.state, standing.disagreements) == ("isolated", ())


def test_status_names_where_kernel_and_request_differ(workplace):
    workplace.host.isolate(["server.example:8443"])
    entries, request = workplace.filter.entries, workplace.file.read()
    workplace.filter.entries = None
    assert "eguard nac restore" in workplace.host.status().disagreements[0]
    workplace.filter.entries = entries
    workplace.file.remove()
    assert "without a request" in workplace.host.status().disagreements[0]
    workplace.host.isolate(["192.0.2.9:1"])
    workplace.file.write(request)
    assert "other addresses" in workplace.host.status().disagreements[0]
    workplace.file.path.write_text("{")
    assert "damaged" in workplace.host.status().disagreements[0]

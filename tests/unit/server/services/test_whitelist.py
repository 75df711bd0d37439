"""Whitelist entries: validated, told to the agents that they concern, every change with a revision and a record."""

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import ServerRefusalError
from eguard.fleet.tables import audit_log, endpoint_whitelist, server_counter
from eguard.server.principal import Principal, Role
from eguard.server.services import whitelist as module
from eguard.server.services.whitelist import Whitelist, entries_for
from eguard.server.services.whitelist_values import WhitelistRequest, canonical_value

NOW = 1_772_000_000.0
ADMIN = Principal("ada", Role.ADMIN, address="192.0.2.7")


@pytest.fixture
def clock():
    return SimulatedClock(NOW)


@pytest.fixture
def whitelist(fleet, clock):
    return Whitelist(fleet, clock)


def request(**changes):
    return WhitelistRequest(**({"kind": "process_key", "value": "apt:cron", "reason": "updates"} | changes))


def counters(database):
    with database.read() as connection:
        return dict(connection.execute(sa.select(server_counter.c.name, server_counter.c.value)).all())


GOOD = [
    ("process_key", "kworker/0%3A1:kthreadd", "kworker/0%3A1:kthreadd"),
    ("hash", "AB" * 32, "ab" * 32),
    ("hash", " " + "cd" * 16, "cd" * 16),
    ("domain", "CDN.Example.org.", "cdn.example.org"),
    ("ip", "192.0.2.7", "192.0.2.7"),
    ("ip", "10.0.0.0/8", "10.0.0.0/8"),
    ("ip", "2001:DB8:0::1", "2001:db8::1"),
    ("rule", "proc_creation_win_whoami", "proc_creation_win_whoami"),
]
BAD = [
    ("process_key", "bash"),
    ("process_key", "%62ash:sshd"),
    ("hash", "ab" * 20),
    ("hash", "zz" * 32),
    ("domain", "*.example.org"),
    ("domain", "exa mple.org"),
    ("domain", "a" * 64 + ".org"),
    ("domain", "."),
    ("ip", "10.1.2.3/8"),
    ("ip", "0.0.0.0/0"),
    ("ip", "::/0"),
    ("ip", "999.1.1.1"),
    ("rule", "a\x1b[31m"),
]


@pytest.mark.parametrize(("kind", "value", "stored"), GOOD)
def test_values_are_stored_in_the_spelling_that_they_are_compared_in(kind, value, stored):
    assert canonical_value(kind, value) == stored


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_value_that_is_none_of_its_kind_has_no_spelling(number):
    with pytest.raises(ValueError, match=r".+"):
        canonical_value(*BAD[number])


def test_a_bad_value_is_refused_by_field(whitelist):
    with pytest.raises(ServerRefusalError) as caught:
        whitelist.create(ADMIN, request(kind="hash", value="zz"))
    assert (caught.value.status, caught.value.reason) == (422, "invalid_whitelist_entry")
    assert [field for field, _ in caught.value.errors] == ["value"]


def test_scope_and_expiry_are_refused_together(whitelist):
    with pytest.raises(ServerRefusalError) as caught:
        whitelist.create(ADMIN, request(scope="group", expires_at_unix=NOW))
    assert [field for field, _ in caught.value.errors] == ["scope_id", "expires_at_unix"]
    with pytest.raises(ServerRefusalError):
        whitelist.create(ADMIN, request(scope="fleet", scope_id="a1"))


def test_every_change_takes_the_next_policy_revision_and_one_record(fleet, whitelist):
    with fleet.write() as connection:
        connection.execute(sa.insert(server_counter).values(name="policy_revision", value=41))
    entry = whitelist.create(ADMIN, request())
    assert counters(fleet) | {"audit": 0} == {"policy_revision": 42, "whitelist_revision": 42, "audit": 0}
    whitelist.delete(ADMIN, entry["entry_id"])
    assert counters(fleet) | {"audit": 0} == {"policy_revision": 43, "whitelist_revision": 43, "audit": 0}
    with fleet.read() as connection:
        records = connection.execute(sa.select(audit_log).order_by(audit_log.c.sequence)).all()
    assert [(row.action, row.object_id, row.principal) for row in records] == [
        ("whitelist.create", entry["entry_id"], "ada"),
        ("whitelist.delete", entry["entry_id"], "ada"),
    ]
    assert records[0].detail["revision"] == 42


def test_the_first_change_of_all_begins_the_counter(fleet, whitelist):
    whitelist.create(ADMIN, request())
    assert counters(fleet)["policy_revision"] == counters(fleet)["whitelist_revision"] == 1


def test_a_refused_change_takes_no_revision_and_leaves_no_record(fleet, whitelist):
    whitelist.create(ADMIN, request())
    before = counters(fleet)
    with pytest.raises(ServerRefusalError) as caught:
        whitelist.create(ADMIN, request())
    assert caught.value.reason == "whitelist_exists"
    with pytest.raises(ServerRefusalError) as caught:
        whitelist.delete(ADMIN, "nothing")
    assert (caught.value.status, caught.value.reason) == (404, "unknown_whitelist_entry")
    with pytest.raises(ServerRefusalError) as caught:
        whitelist.create(ADMIN, request(scope="agent", scope_id="stranger"))
    assert (caught.value.status, caught.value.reason) == (404, "unknown_agent")
    assert counters(fleet) == before


def test_a_change_that_cannot_be_recorded_is_undone(fleet, whitelist, monkeypatch):
    def refuse(*_arguments, **_named):
        raise ServerRefusalError(503, "audit", "no")

    monkeypatch.setattr(module.audit, "record", refuse)
    with pytest.raises(ServerRefusalError):
        whitelist.create(ADMIN, request())
    assert whitelist.entries() == []
    assert counters(fleet) == {}


def test_an_agent_gets_the_entries_of_the_fleet_its_group_and_its_own(fleet, whitelist, clock):
    whitelist.create(ADMIN, request())
    whitelist.create(ADMIN, request(scope="group", scope_id="web", value="a:b"))
    whitelist.create(ADMIN, request(scope="group", scope_id="db", value="c:d"))
    whitelist.create(ADMIN, request(scope="agent", scope_id="a1", value="e:f", expires_at_unix=NOW + 60.0))
    whitelist.create(ADMIN, request(scope="agent", scope_id="a2", value="g:h"))

    def values(agent_id, group):
        with fleet.read() as connection:
            return {entry.value for entry in entries_for(connection, agent_id, group, clock.now())}

    assert values("a1", "web") == {"apt:cron", "a:b", "e:f"}
    assert values("a2", "db") == {"apt:cron", "c:d", "g:h"}
    clock.advance_to(NOW + 60.0)
    assert values("a1", "web") == {"apt:cron", "a:b"}


def test_an_expired_entry_is_listed_as_such_and_may_be_made_again(whitelist, clock):
    whitelist.create(ADMIN, request(expires_at_unix=NOW + 10.0))
    clock.advance_to(NOW + 11.0)
    again = whitelist.create(ADMIN, request())
    assert {entry["entry_id"]: entry["state"] for entry in whitelist.entries()}[again["entry_id"]] == "active"
    assert sorted(entry["state"] for entry in whitelist.entries()) == ["active", "expired"]
    assert len(whitelist.entries(include_expired=False)) == 1
    assert whitelist.entries(kind="hash") == []


def test_what_is_answered_is_what_is_listed(fleet):
    whitelist = Whitelist(fleet, SimulatedClock(1_795_426_411.6513422))  # more digits than a database keeps
    made = whitelist.create(ADMIN, request(expires_at_unix=1_795_426_500.1234567))
    assert whitelist.entries() == [made]


def test_keys_that_differ_in_case_or_normal_form_are_two_entries(fleet, whitelist):
    for value in ("é:x", "e\u0301:x", "E:x", "e:x", "e:x "):
        whitelist.create(ADMIN, request(value=value))
    with fleet.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(endpoint_whitelist)).scalar_one() == 5


def test_the_list_is_bounded(whitelist, monkeypatch):
    monkeypatch.setattr(module, "MAX_ENTRIES", 1)
    whitelist.create(ADMIN, request())
    with pytest.raises(ServerRefusalError) as caught:
        whitelist.create(ADMIN, request(value="a:b"))
    assert (caught.value.status, caught.value.reason) == (409, "whitelist_full")

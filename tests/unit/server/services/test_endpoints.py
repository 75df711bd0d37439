"""Endpoints: heartbeats, clones, what operators decide, and the inventory."""

import threading

import pytest
import sqlalchemy as sa

from eguard.errors import FleetStoreError, ServerRefusalError
from eguard.fleet.tables import endpoint_agent, endpoint_incarnation
from eguard.server.pki.authority import IssuedCertificate
from eguard.server.principal import Principal, Role
from eguard.server.services.audit import Audit
from eguard.server.services.certificates import Certificates, record_issued
from eguard.server.services.endpoints import Endpoints, agent_row
from eguard.server.services.heartbeats import Beat
from eguard.server.services.inventory import LOST_SECONDS, SILENT_SECONDS, Inventory
from eguard.wire.control import Heartbeat, InventoryReport, ShadowSummary

GIANT = 2**53 - 1


@pytest.fixture
def endpoints(fleet_database, fleet_clock):
    return Endpoints(
        fleet_database,
        fleet_clock,
        revisions_for=lambda names: [len(name) for name in names],
        pending_commands=lambda connection, names, now: dict.fromkeys(names, 3),  # noqa: ARG005 - its signature
    )


@pytest.fixture
def inventory(fleet_database, fleet_clock):
    return Inventory(fleet_database, fleet_clock)


@pytest.fixture
def audit(fleet_database, fleet_clock):
    return Audit(fleet_database, fleet_clock)


def agent(name="web-7"):
    return Principal(name, Role.AGENT, address="192.0.2.50", credential="ab")


def beat(name="web-7", incarnation="A", **changes):
    values = {"agent_id": name, "incarnation": incarnation, "agent_version": "1.0", "baseline_status": "active"}
    return Heartbeat(**(values | changes))


def shadow_summary(digest):
    counts = dict.fromkeys(("active_flagged", "shadow_flagged", "only_shadow", "only_active"), 0)
    return ShadowSummary(digest=digest, scored=7, difference_sum=0.5, **counts)


def report(name="web-7", **changes):
    values = {
        "agent_id": name,
        "hostname": "WEB-7",
        "os_type": "linux",
        "os_version": "Debian 12",
        "kernel_version": "6.1.0-18",
        "architecture": "x86_64",
        "ip_address": "192.0.2.50",
        "collected_at_unix": 1_789_000_000.0,
    }
    return InventoryReport(**(values | changes))


def refusal(call, *args, **named):
    with pytest.raises(ServerRefusalError) as caught:
        call(*args, **named)
    return caught.value.status, caught.value.reason


def row(database, name="web-7"):
    with database.read() as connection:
        return agent_row(connection, name)


def test_a_first_heartbeat_enrols_a_machine_with_an_operators_certificate(fleet_database, fleet_clock, endpoints):
    answer = endpoints.heartbeat(agent(), beat(cpu_fraction=0.5, rss_bytes=GIANT, bundle_version="v" * 200))
    assert (answer.policy_revision, answer.commands_pending, answer.status) == (5, 3, "ok")
    assert answer.server_time_unix == fleet_clock.now()
    stored = row(fleet_database)
    assert (stored["status"], stored["group"], stored["incarnation"]) == ("active", "default", "A")
    assert (stored["last_heartbeat"], stored["rss_bytes"], stored["address"]) == (
        fleet_clock.now(),
        GIANT,
        "192.0.2.50",
    )
    assert stored["bundle_version"] == "v" * 64


def test_two_machines_with_one_certificate_are_found_once_and_go_on_being_answered(fleet_database, endpoints, audit):
    endpoints.heartbeat(agent(), beat(incarnation="A"))
    endpoints.heartbeat(agent(), beat(incarnation="B"))
    assert row(fleet_database)["cloned_at"] is None  # a reinstallation looks the same up to here
    for incarnation in "BABAAB":
        endpoints.heartbeat(agent(), beat(incarnation=incarnation))
    assert row(fleet_database)["cloned_at"] is not None
    (record,) = audit.search(action="endpoint.clone_detected").records
    assert (record.object_id, record.detail) == ("web-7", {"heard_again": "A", "latest": "B"})


def test_the_later_machine_may_be_the_one_that_is_heard_again(fleet_database, endpoints, audit):
    for incarnation in "ABCB":
        endpoints.heartbeat(agent(), beat(incarnation=incarnation))
    (record,) = audit.search(action="endpoint.clone_detected").records
    assert record.detail == {"heard_again": "B", "latest": "C"}
    with fleet_database.read() as connection:
        known = connection.execute(
            sa.select(endpoint_incarnation.c.incarnation, endpoint_incarnation.c.ordinal).order_by("ordinal")
        ).all()
    assert known == [("A", 1), ("B", 2), ("C", 3)]


def test_reinstallations_in_a_row_are_no_clones(fleet_database, endpoints, audit):
    for incarnation in "AABBCC":
        endpoints.heartbeat(agent(), beat(incarnation=incarnation))
    assert row(fleet_database)["cloned_at"] is None
    assert audit.search().records == []


def test_a_clone_that_cannot_be_put_on_record_is_not_passed_over(fleet_database, endpoints, audit):
    for incarnation in "AB":
        endpoints.heartbeat(agent(), beat(incarnation=incarnation))
    with fleet_database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_log RENAME TO audit_log_gone")
    try:
        with pytest.raises(FleetStoreError):
            endpoints.heartbeat(agent(), beat(incarnation="A"))
    finally:
        with fleet_database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_log_gone RENAME TO audit_log")
    endpoints.heartbeat(agent(), beat(incarnation="A"))
    assert len(audit.search(action="endpoint.clone_detected").records) == 1


def test_equal_heartbeats_that_wait_together_are_answered_each_and_a_refused_one_spoils_none(fleet_database, endpoints):
    same = Beat(agent(), beat())
    beats = [Beat(agent("b"), beat("b", incarnation="i" * 65)), same, Beat(agent("a"), beat("a")), same]
    refused, *answers = endpoints.heartbeats(beats)
    assert (refused.status, refused.reason) == (422, "invalid_incarnation")
    assert [each.policy_revision for each in answers] == [len("web-7"), len("a"), len("web-7")]
    assert row(fleet_database, "a")["incarnation"] == "A"


def test_heartbeats_at_once_are_all_written_and_one_that_is_refused_spoils_no_other(fleet_database, endpoints, ada):
    endpoints.heartbeat(agent("gone"), beat("gone"))
    endpoints.decommission(ada, "gone", "sold")
    refused = []
    barrier = threading.Barrier(40)

    def send(number):
        name = "gone" if number == 7 else f"web-{number}"
        barrier.wait()
        try:
            endpoints.heartbeat(agent(name), beat(name, events_total=number))
        except ServerRefusalError as error:
            refused.append((name, error.reason))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [("gone", "decommissioned")]
    with fleet_database.read() as connection:
        stored = dict(connection.execute(sa.select(endpoint_agent.c.agent_id, endpoint_agent.c.events_total)).all())
    assert {name: total for name, total in stored.items() if name != "gone"} == {
        f"web-{number}": number for number in range(40) if number != 7
    }


def test_an_incarnation_that_does_not_fit_is_refused(endpoints):
    assert refusal(endpoints.heartbeat, agent(), beat(incarnation="i" * 65)) == (422, "invalid_incarnation")


def test_a_decommissioned_agents_certificates_end_and_the_record_names_them(
    fleet_database, fleet_clock, endpoints, audit, ada
):
    endpoints.heartbeat(agent(), beat())
    certificates = Certificates(fleet_database, fleet_clock)
    with fleet_database.write() as connection:
        now = fleet_clock.now()
        record_issued(connection, IssuedCertificate("", "ab", "f", now, now + 1e6), "web-7", "agent", now)
    view = endpoints.decommission(ada, "web-7", "sold")
    assert (view["status"], view["decommissioned_at_unix"]) == ("decommissioned", fleet_clock.now())
    assert certificates.state_of("ab") == "decommissioned"
    assert certificates.list("web-7")[0]["revoked_reason"] == "decommissioned: sold"
    (record,) = audit.search().records
    assert (record.action, record.detail) == ("endpoint.decommission", {"reason": "sold", "serials": ["ab"]})
    assert refusal(endpoints.decommission, ada, "web-7", "") == (409, "already_decommissioned")
    assert refusal(endpoints.quarantine, ada, "web-7", "") == (409, "not_active")
    assert refusal(endpoints.move, ada, "web-7", "web") == (409, "agent_decommissioned")


def test_quarantine_takes_votes_and_release_gives_them_back(fleet_database, endpoints, audit, ada):
    endpoints.heartbeat(agent(), beat())
    assert endpoints.quarantine(ada, "web-7", "odd profiles")["status"] == "quarantined"
    endpoints.heartbeat(agent(), beat())
    assert row(fleet_database)["status"] == "quarantined"
    assert refusal(endpoints.quarantine, ada, "web-7", "") == (409, "not_active")
    view = endpoints.release(ada, "web-7", "explained")
    assert (view["status"], view["quarantined_at_unix"]) == ("active", None)
    assert refusal(endpoints.release, ada, "web-7", "") == (409, "not_quarantined")
    assert [record.action for record in audit.search().records] == ["endpoint.release", "endpoint.quarantine"]


def test_a_move_takes_the_next_policy_revision(fleet_database, fleet_clock, ada):
    moves = []
    endpoints = Endpoints(fleet_database, fleet_clock, moved=lambda: moves.append(1))
    endpoints.heartbeat(agent(), beat())
    endpoints.move(ada, "web-7", "web")
    first = row(fleet_database)
    endpoints.move(ada, "web-7", "db", "rebuilt")
    second = row(fleet_database)
    assert (first["group"], second["group"]) == ("web", "db")
    assert second["group_revision"] > first["group_revision"] > 0
    assert refusal(endpoints.move, ada, "web-7", "db") == (409, "already_in_group")
    assert moves == [1, 1]


@pytest.mark.parametrize("group", ["", " web", "a\x1b[2J", "g" * 65])
def test_a_group_without_a_printable_name_is_refused(endpoints, ada, group):
    assert refusal(endpoints.move, ada, "web-7", group) == (422, "invalid_group")


@pytest.mark.parametrize("verb", ["decommission", "quarantine", "release", "move"])
def test_an_agent_that_nobody_knows_is_said_to_be_unknown(endpoints, audit, ada, verb):
    assert refusal(getattr(endpoints, verb), ada, "Web-7", "reason") == (404, "unknown_agent")
    assert audit.search().records == []


@pytest.mark.parametrize("verb", ["decommission", "quarantine", "move"])
def test_without_an_audit_log_nothing_changes(fleet_database, endpoints, ada, verb):
    endpoints.heartbeat(agent(), beat())
    before = row(fleet_database)
    with fleet_database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_log RENAME TO audit_log_gone")
    try:
        with pytest.raises(FleetStoreError):
            getattr(endpoints, verb)(ada, "web-7", "reason")
    finally:
        with fleet_database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_log_gone RENAME TO audit_log")
    assert row(fleet_database) == before


def test_states_in_the_list_are_those_of_each_row(fleet_clock, endpoints, inventory, ada):
    start = fleet_clock.now()
    for name, at in (
        ("lost", 0.0),
        ("seven-days", 1.0),
        ("silent", LOST_SECONDS - SILENT_SECONDS),
        ("five-minutes", LOST_SECONDS - SILENT_SECONDS + 1.0),
        ("out", LOST_SECONDS),
        ("watched", LOST_SECONDS),
    ):
        fleet_clock.advance_to(start + at)
        endpoints.heartbeat(agent(name), beat(name))
    endpoints.decommission(ada, "out", "")
    endpoints.quarantine(ada, "watched", "")
    fleet_clock.advance_to(start + LOST_SECONDS + 1.0)
    rows = {view["agent_id"]: view for view in inventory.rows().rows}
    states = {name: view["status"] for name, view in rows.items()}
    assert states == {
        "lost": "lost",
        "seven-days": "silent",
        "silent": "silent",
        "five-minutes": "active",
        "out": "decommissioned",
        "watched": "quarantined",
    }
    assert rows["lost"]["lost"]
    assert not rows["silent"]["lost"]
    for state in ("active", "silent", "lost", "quarantined", "decommissioned"):
        found = {view["agent_id"] for view in inventory.rows(status=state).rows}
        assert found == {name for name, own in states.items() if own == state}
    assert inventory.counts() == {"active": 1, "silent": 2, "lost": 1, "quarantined": 1, "decommissioned": 1}


def test_a_report_is_stored_and_the_last_that_arrives_counts(fleet_clock, endpoints, inventory):
    inventory.report(agent(), report())
    assert inventory.endpoint("web-7")["status"] == "silent"  # its first heartbeat has yet to come
    endpoints.heartbeat(agent(), beat())
    inventory.report(agent(), report(facts={"ID": "debian"}, memory_bytes=GIANT, sensor="s" * 255, boot_time_unix=1.5))
    view = inventory.endpoint("web-7")
    assert (view["hostname"], view["facts"], view["memory_bytes"]) == ("WEB-7", {"ID": "debian"}, GIANT)
    assert (view["sensor"], view["boot_time_unix"], view["agent_version"]) == ("s" * 32, 1.5, "1.0")
    inventory.report(agent(), report(os_version="Debian 13", collected_at_unix=253_402_300_799.0))
    assert inventory.endpoint("web-7")["collected_at_unix"] == fleet_clock.now()
    inventory.report(agent(), report(os_version="Debian 14", collected_at_unix=0.0))
    assert inventory.endpoint("web-7")["os_version"] == "Debian 14"


def test_the_list_shows_endpoints_that_never_reported_a_machine(endpoints, inventory):
    endpoints.heartbeat(agent(), beat())
    (view,) = inventory.rows().rows
    assert (view["agent_id"], view["hostname"], view["facts"], view["cloned"]) == ("web-7", None, {}, False)
    assert "group_revision" not in view


def test_filters_combine_and_read_wildcards_as_text(endpoints, inventory, ada):
    for name, os_type in (("web-7", "linux"), ("web_8", "Windows"), ("db%9", "linux")):
        endpoints.heartbeat(agent(name), beat(name))
        inventory.report(agent(name), report(name, hostname=name.upper(), os_type=os_type))
    endpoints.move(ada, "web-7", "web")

    def names(**filters):
        return [view["agent_id"] for view in inventory.rows(**filters).rows]

    assert names(q="WEB") == ["web-7", "web_8"]
    assert names(q="_") == ["web_8"]
    assert names(q="%") == ["db%9"]
    assert names(q="192.0.2.50", os="LINUX") == ["db%9", "web-7"]
    assert names(os="windows") == ["web_8"]
    assert names(group="web") == ["web-7"]
    assert names(group="Web") == []
    assert inventory.rows(q="web", limit=1).total == 2


def test_pages_hold_every_endpoint_once(endpoints, inventory):
    expected = sorted(["b", "a", "B", "é", "e", "a b", "\U0001f600"])
    for name in expected:
        endpoints.heartbeat(agent(name), beat(name))
    seen, cursor = [], ""
    while cursor is not None:
        page = inventory.rows(limit=2, cursor=cursor)
        seen += [view["agent_id"] for view in page.rows]
        assert page.total == len(expected)
        cursor = page.next_cursor
    assert seen == expected


def test_the_bundle_that_an_agent_runs_is_dated_by_its_first_heartbeat_and_what_it_refused_is_forgotten(
    endpoints, inventory, fleet_clock
):
    one, two, start = "1" * 64, "2" * 64, fleet_clock.now()
    told = {"bundle_digest": one, "bundle_state": "current", "refused_digest": two, "refused_code": "bundle_load"}
    endpoints.heartbeat(agent(), beat(**told, shadow=shadow_summary(two)))
    fleet_clock.advance_to(start + 30.0)
    endpoints.heartbeat(agent(), beat(**told))
    shown = inventory.endpoint("web-7")
    assert (shown["bundle_digest"], shown["bundle_since_unix"]) == (one, pytest.approx(start))
    assert (shown["refused_digest"], shown["refused_code"], shown["shadow"]) == (two, "bundle_load", None)
    fleet_clock.advance_to(start + 60.0)
    endpoints.heartbeat(agent(), beat(bundle_digest=two, bundle_state="current", shadow=shadow_summary(one)))
    shown = inventory.endpoint("web-7")
    assert (shown["bundle_digest"], shown["bundle_since_unix"]) == (two, pytest.approx(start + 60.0))
    assert (shown["refused_digest"], shown["refused_code"]) == (None, None)
    assert (shown["shadow"]["digest"], shown["shadow"]["scored"]) == (one, 7)

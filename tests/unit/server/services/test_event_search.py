"""Incidents as analysts look for them: by words, severity, host and status, page by page, newest first."""

import msgspec
import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.detection.alert import Alert, MatchedRule
from eguard.errors import ServerRefusalError
from eguard.fleet.tables import audit_log
from eguard.server.principal import Principal, Role
from eguard.server.services.event_search import EventQuery, EventSearch, IncidentChange
from eguard.server.services.events import Events
from eguard.server.services.feedback import Feedback, FeedbackRequest
from eguard.server.services.whitelist import Whitelist
from eguard.server.services.whitelist_values import WhitelistRequest
from eguard.wire.telemetry import TelemetryBatch

NOW = 1_772_000_000.0
ADA = Principal("ada", Role.ANALYST)


@pytest.fixture
def search(fleet):
    return EventSearch(fleet, SimulatedClock(NOW))


@pytest.fixture
def report(fleet):
    def send(agent_id, *alerts):
        bodies = [msgspec.json.decode(one.to_json()) for one in alerts]
        answer = Events(fleet, SimulatedClock(NOW)).take(
            agent_id, TelemetryBatch(agent_id=agent_id, batch_id="b", alerts=bodies)
        )
        assert answer.rejected == []

    return send


def alert(alert_id, at=0.0, rule="r1", **changes):
    values = {
        "alert_id": alert_id,
        "host_id": "host",
        "observed_at_unix": NOW - 100_000.0 + at,
        "event_class": "process_exec",
        "process_key": f"{rule}:sh",
        "confidence": "medium",
        "response": "alert_only",
        "reasons": ("rule",),
        "rules": (MatchedRule(rule, f"Title of {rule}", "high", "a", ()),),
    }
    return Alert(**(values | changes))


def found(page):
    return [[event["event_id"] for event in incident["events"]] for incident in page["incidents"]]


def test_incidents_come_newest_first_with_their_newest_alerts_first(search, report):
    report("a1", alert("e1", 0.0), alert("e2", 10.0), alert("e3", 5.0, "r2"))
    report("a2", alert("e4", 20.0))
    assert found(search.page(EventQuery())) == [["e4"], ["e2", "e1"], ["e3"]]
    first = search.page(EventQuery())["incidents"][1]
    assert (first["alerts"], first["matching"], first["agent_id"], first["status"]) == (2, 2, "a1", "open")


def test_words_all_occur_in_one_alert_whatever_their_case(search, report):
    report("a1", alert("e1", command_line="curl http://Evil.example/x"), alert("e2", 1.0, command_line="wget evil"))
    assert found(search.page(EventQuery(text="EVIL curl"))) == [["e1"]]
    assert found(search.page(EventQuery(text="evil"))) == [["e2", "e1"]]
    assert found(search.page(EventQuery(text="curl wget"))) == []
    assert search.page(EventQuery(text="EVIL curl"))["incidents"][0]["alerts"] == 2


@pytest.mark.parametrize("word", ["100%", "a_b", "c!d", "e\\f", "o'hara", "<script>", "{{x}}", "=cmd()"])
def test_signs_that_databases_read_in_their_own_way_stand_for_themselves(search, report, word):
    report("a1", alert("e1", command_line=f"x{word}y"), alert("e2", rule="r2", command_line="x100 axb cd ef ohara"))
    assert found(search.page(EventQuery(text=word))) == [["e1"]]


def test_severity_host_and_status_narrow_the_search(search, report):
    report("a1", alert("e1"), alert("e2", 1.0, "r2", confidence="definite"))
    report("a2", alert("e3", 2.0, confidence="high"))
    assert found(search.page(EventQuery(severity="definite,high"))) == [["e3"], ["e2"]]
    assert found(search.page(EventQuery(agent_id="a2"))) == [["e3"]]
    incident_id = search.page(EventQuery(agent_id="a2"))["incidents"][0]["incident_id"]
    search.change_incident(ADA, incident_id, IncidentChange(status="closed"))
    assert found(search.page(EventQuery(status="open"))) == [["e2"], ["e1"]]
    assert found(search.page(EventQuery(status="closed,investigating"))) == [["e3"]]


def test_pages_hold_every_incident_once(search, report):
    for number in range(7):  # pairs share an instant
        report("a1", alert(f"e{number}", float(number // 2), f"r{number}"))
    pages, cursor = [], ""
    while cursor is not None:
        page = search.page(EventQuery(), limit=3, cursor=cursor)
        pages.append(found(page))
        cursor = page["cursor"]
    assert [len(page) for page in pages] == [3, 3, 1]
    seen = [event for page in pages for incident in page for event in incident]
    assert sorted(seen) == [f"e{number}" for number in range(7)]
    assert search.page(EventQuery(), limit=7)["cursor"] is None


def test_an_incident_shows_its_newest_alerts_and_how_many_match(search, report):
    report("a1", *(alert(f"e{number:02}", float(number)) for number in range(25)))
    (incident,) = search.page(EventQuery())["incidents"]
    assert [event["event_id"] for event in incident["events"]] == [f"e{number:02}" for number in range(24, 4, -1)]
    assert (incident["alerts"], incident["matching"]) == (25, 25)


def test_what_the_whitelist_silenced_is_shown_where_it_is_asked_for(fleet, search, report):
    request = WhitelistRequest(kind="rule", value="r1", reason="noise")
    Whitelist(fleet, SimulatedClock(NOW)).create(Principal("ada", Role.ADMIN), request)
    report("a1", alert("e1"), alert("e2", 1.0, "r2"))
    assert found(search.page(EventQuery())) == [["e2"]]
    assert found(search.page(EventQuery(status="suppressed"))) == [["e1"]]


@pytest.mark.parametrize(
    ("query", "cursor", "field"),
    [
        (EventQuery(severity="loud"), "", "severity"),
        (EventQuery(status="lost"), "", "status"),
        (EventQuery(text="a b c d e f g h i"), "", "q"),
        (EventQuery(), "!!", "cursor"),
        (EventQuery(), "WzFlOTksICJhIl0=", "cursor"),
        (EventQuery(), "bnVsbA==", "cursor"),
        (EventQuery(), "é", "cursor"),
    ],
    ids=["severity", "status", "words", "no-base64", "time-out-of-range", "null", "no-ascii"],
)
def test_what_cannot_be_read_is_refused_by_field(search, query, cursor, field):
    with pytest.raises(ServerRefusalError) as caught:
        search.page(query, cursor=cursor)
    assert caught.value.status == 422
    assert [name for name, _ in caught.value.errors] == [field]


def test_an_event_comes_with_its_detail_its_incident_and_its_verdicts(fleet, search, report):
    report("a1", alert("e1", command_line="\x1b[31m<script>"))
    Feedback(fleet, SimulatedClock(NOW)).add(ADA, FeedbackRequest(event_id="e1", verdict="benign"))
    event = search.event("e1")
    assert event["detail"]["command_line"] == "\x1b[31m<script>"
    assert event["incident"]["alerts"] == 1
    assert event["feedback"]["verdict"] == "benign"
    with pytest.raises(ServerRefusalError) as caught:
        search.event("e2")
    assert caught.value.status == 404


def test_a_change_of_an_incident_is_recorded_once_with_what_it_was(fleet, search, report):
    report("a1", alert("e1"))
    incident_id = search.page(EventQuery())["incidents"][0]["incident_id"]
    shown = search.change_incident(ADA, incident_id, IncidentChange(status="investigating", assignee="ada"))
    assert (shown["status"], shown["assignee"]) == ("investigating", "ada")
    with fleet.read() as connection:
        (record,) = connection.execute(sa.select(audit_log)).all()
    assert (record.action, record.principal, record.object_id) == ("incident.update", "ada", incident_id)
    assert record.detail["status"] == {"from": "open", "to": "investigating"}
    assert search.change_incident(ADA, incident_id, IncidentChange(assignee=""))["assignee"] is None
    with pytest.raises(ServerRefusalError) as caught:
        search.change_incident(ADA, incident_id, IncidentChange())
    assert caught.value.reason == "empty_change"
    with pytest.raises(ServerRefusalError) as caught:
        search.change_incident(ADA, "nothing", IncidentChange(status="closed"))
    assert caught.value.status == 404

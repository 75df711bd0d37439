"""Verdicts: appended, never changed; the latest counts and disagreement stays visible."""

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import ServerRefusalError
from eguard.fleet.tables import alert_feedback, audit_log, endpoint_event
from eguard.server.principal import Principal, Role
from eguard.server.services import feedback as module
from eguard.server.services.feedback import Feedback, FeedbackRequest

NOW = 1_772_000_000.0
ADA = Principal("ada", Role.ANALYST)
BOB = Principal("bob", Role.ADMIN)


@pytest.fixture
def clock():
    return SimulatedClock(NOW)


@pytest.fixture
def feedback(fleet, clock):
    with fleet.write() as connection:
        connection.execute(
            sa.insert(endpoint_event).values(
                event_id="e1",
                agent_id="a1",
                observed_at=NOW,
                received_at=NOW,
                event_class="dns_query",
                process_key="curl:sh",
                rule_id="r1",
                severity="high",
                detail={},
                search_text="",
            )
        )
    return Feedback(fleet, clock)


def say(verdict, note=""):
    return FeedbackRequest(event_id="e1", verdict=verdict, note=note)


def test_the_latest_verdict_counts_and_every_earlier_one_is_kept(feedback, clock):
    feedback.add(ADA, say("true_positive", "looks real"))
    clock.advance_to(NOW + 5.0)
    said = feedback.add(ADA, say("benign", "a deploy"))
    assert (said["verdict"], said["is_disputed"]) == ("benign", False)
    assert [(one["verdict"], one["note"], one["analyst"]) for one in feedback.verdicts("e1")["history"]] == [
        ("true_positive", "looks real", "ada"),
        ("benign", "a deploy", "ada"),
    ]


def test_analysts_who_differ_are_shown_until_they_agree(feedback, clock):
    feedback.add(ADA, say("true_positive"))
    clock.advance_to(NOW + 1.0)
    assert feedback.add(BOB, say("false_positive"))["is_disputed"] is True
    clock.advance_to(NOW + 2.0)
    said = feedback.add(ADA, say("false_positive"))
    assert (said["verdict"], said["is_disputed"]) == ("false_positive", False)


def test_order_holds_within_one_instant(feedback):
    for verdict in ("true_positive", "benign", "false_positive") * 3:
        assert feedback.add(ADA, say(verdict))["verdict"] == verdict
    assert len(feedback.verdicts("e1")["history"]) == 9


def test_a_verdict_on_nothing_is_refused_without_a_trace(fleet, feedback):
    with pytest.raises(ServerRefusalError) as caught:
        feedback.add(ADA, FeedbackRequest(event_id="e2", verdict="benign"))
    assert (caught.value.status, caught.value.reason) == (404, "unknown_event")
    with fleet.read() as connection:
        assert connection.execute(sa.select(alert_feedback)).all() == []
        assert connection.execute(sa.select(audit_log)).all() == []
    assert feedback.verdicts("e2")["verdict"] is None


def test_a_verdict_is_recorded_once_with_who_gave_it(fleet, feedback):
    feedback.add(ADA, say("benign", "=cmd()|<script>{{x}}\x1b[31m"))
    with fleet.read() as connection:
        (record,) = connection.execute(sa.select(audit_log)).all()
    assert (record.action, record.object_id, record.principal) == ("feedback.create", "e1", "ada")
    assert feedback.verdicts("e1")["history"][0]["note"] == "=cmd()|<script>{{x}}\x1b[31m"


def test_verdicts_on_one_event_are_bounded(feedback, monkeypatch):
    monkeypatch.setattr(module, "MAX_VERDICTS", 2)
    feedback.add(ADA, say("benign"))
    feedback.add(BOB, say("benign"))
    with pytest.raises(ServerRefusalError) as caught:
        feedback.add(ADA, say("benign"))
    assert caught.value.status == 409

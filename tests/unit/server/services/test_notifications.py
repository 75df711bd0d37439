"""A message is in the outbox exactly if what it tells of was committed."""

import pytest

from eguard.server.services.notifications import notify
from eguard.server.services.outbox import outbox

NOW = 1_772_000_000.0
FACTS = {"kind": "fleet_drift", "severity": "critical", "title": "t" * 300, "now": NOW}


def test_a_message_is_committed_with_its_transaction_or_not_at_all(fleet):
    def tell():
        with fleet.write() as connection:
            notify(connection, **FACTS, detail={})
            raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        tell()
    assert outbox(fleet, 10) == []


def test_titles_are_cut_and_numbers_that_json_lacks_become_null(fleet):
    detail = {"value": float("nan"), "series": [1.5, float("inf")], "deep": {"x": (2, -float("inf"))}, "ok": True}
    with fleet.write() as connection:
        made = notify(connection, **FACTS, detail=detail)
    (message,) = outbox(fleet, 10)
    assert message == {
        "notification_id": made,
        "kind": "fleet_drift",
        "severity": "critical",
        "title": "t" * 255,
        "detail": {"value": None, "series": [1.5, None], "deep": {"x": [2, None]}, "ok": True},
        "created_at_unix": NOW,
        "dispatched_at_unix": None,
        "deliveries": [],
    }


@pytest.mark.parametrize(("kind", "severity"), [("", "info"), ("k" * 65, "info"), ("alert", "alarming")])
def test_a_kind_or_severity_that_is_none_is_refused(fleet, kind, severity):
    with fleet.write() as connection, pytest.raises(ValueError, match="no notification"):
        notify(connection, kind=kind, severity=severity, title="t", detail={}, now=NOW)

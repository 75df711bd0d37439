"""Drills on one machine, against answers as they are, and as they should not be."""

import json

import pytest
from drill_scene import NOW, agent, insert, missed, run

from eguard.errors import EvidenceError
from eguard.evidence.readiness.drills import DRILLS
from eguard.fleet.tables import (
    endpoint_agent,
    endpoint_certificate,
    notification,
    notification_delivery,
)

SIGNALS = {
    "until_unix": NOW,
    "alerts": [{"rule": "aggregation", "state": "ok", "looked_at_unix": NOW - 30}],
}
TRIED = {"results": [{"sink": "webhook", "address": "https://hook.example", "ok": True}]}


@pytest.fixture
def scraped(monkeypatch):
    monkeypatch.setattr(
        "eguard.evidence.readiness.drills.alerts._metrics", lambda: 'eguard_alert_firing{rule="aggregation"} 0.0\n'
    )


def with_rule(**changes):
    return {"fleet signals": SIGNALS | {"alerts": [SIGNALS["alerts"][0] | changes]}}


@pytest.mark.usefixtures("scraped")
@pytest.mark.parametrize(
    ("answers", "names"),
    [
        ({}, []),
        ({"server notify": {"results": []}}, ["receivers that took the test message"]),
        (
            {"server notify": {"results": [{"sink": "syslog", "address": "udp://log:514", "ok": True}]}},
            ["receivers that took the test message"],
        ),
        (
            {"server notify": {"results": [*TRIED["results"], {"sink": "syslog", "address": "tls://x", "ok": False}]}},
            ["receivers that took the test message"],
        ),
        (with_rule(looked_at_unix=NOW - 900), ["rules that were not judged lately"]),
        (with_rule(looked_at_unix=None), ["rules that were not judged lately"]),
        (with_rule(state="alert"), ["rules that fire now"]),
        (with_rule(rule="safety"), ["rules that a scraper does not find at /metrics"]),
    ],
    ids=["well", "nobody", "udp-alone", "one-refuses", "stale", "never", "fires", "not-scraped"],
)
def test_alerts_are_judged_told_and_scraped(database, answers, names):
    record, _ = run("alerts", {"server notify": TRIED, "fleet signals": SIGNALS} | answers, database)
    assert (missed(record), record["error"]) == (names, "")


@pytest.mark.usefixtures("scraped")
def test_a_message_that_nobody_took_fails_alerts(database):
    base = {"kind": "alert", "severity": "warning", "title": "t", "detail": {}, "created_at": NOW - 9000}
    insert(database, notification, {"notification_id": "n", **base})
    delivery = {"notification_id": "n", "sink": "webhook", "status": "given_up", "attempts": 9, "next_attempt_at": NOW}
    insert(database, notification_delivery, delivery)
    record, _ = run("alerts", {"server notify": TRIED, "fleet signals": SIGNALS}, database)
    assert missed(record) == ["messages given up"]


def doctor(names, **states):
    return {"checks": [{"name": name, "state": states.get(name, "ok"), "cause": "x"} for name in names]}


def parity(recall=1.0, key_accuracy=1.0, works=True):
    seen = {"done": 100, "seen": 100, "recall": recall, "key_accuracy": key_accuracy}
    classes = {"classes": {"process_exec": seen}} if works else {"reason": "no eBPF here"}
    return {"record": {"sensors": {"ebpf": {"works": works, **classes}}}}


SENSORS = ("kernel", "btf", "kernel_headers", "tracefs", "bcc", "tracepoints", "privileges", "ebpf")


@pytest.mark.parametrize(
    ("found", "measured", "names"),
    [
        (doctor(SENSORS), parity(), []),
        (doctor(SENSORS, btf="warning"), parity(), ["doctor: btf"]),
        (doctor(SENSORS[1:]), parity(), ["doctor: kernel"]),
        (doctor(SENSORS), parity(recall=0.98), ["process_exec"]),
        (doctor(SENSORS), parity(key_accuracy=0.98), ["process_exec"]),
        (doctor(SENSORS), parity(key_accuracy=None), ["process_exec"]),
        (doctor(SENSORS), parity(works=False), ["the eBPF sensor works here"]),
    ],
    ids=["well", "warning", "not-checked", "blind", "wrong-names", "no-names", "no-ebpf"],
)
def test_the_sensor_is_held_to_what_surely_happened(found, measured, names):
    record, _ = run("sensors", {"doctor": found, "sensor parity": measured})
    assert (missed(record), record["error"]) == (names, "")


BUNDLE = ("bundle_signature", "bundle_expiry", "bundle_content")


def test_a_bundle_is_clean_or_it_is_not(database):
    insert(database, endpoint_agent, agent("a"), agent("b"))
    record, _ = run("bundle", {"doctor": doctor(BUNDLE)}, database)
    assert record["passed"]
    record, _ = run("bundle", {"doctor": doctor(BUNDLE, bundle_expiry="skipped")}, database)
    assert missed(record) == ["doctor: bundle_expiry"]
    insert(database, endpoint_agent, agent("c", bundle_version=None))
    record, _ = run("bundle", {"doctor": doctor(BUNDLE)}, database)
    assert missed(record) == ["agents that run without a bundle"]


def test_agents_without_a_valid_certificate_fail_mtls(database, monkeypatch):
    monkeypatch.delenv("EGUARD_SERVER", raising=False)
    certificate = {
        "fingerprint": "f",
        "not_before": NOW - 100,
        "issued_at": NOW - 100,
        "issued_for": "enrolment",
    }
    insert(database, endpoint_agent, *(agent(name) for name in ("good", "late", "revoked", "none")))
    insert(
        database,
        endpoint_certificate,
        {"serial": "1", "agent_id": "good", "not_after": NOW + 9, "revoked_at": None, **certificate},
        {"serial": "2", "agent_id": "late", "not_after": NOW - 9, "revoked_at": None, **certificate},
        {"serial": "3", "agent_id": "revoked", "not_after": NOW + 9, "revoked_at": NOW - 9, **certificate},
    )
    names = ("transport", "tls_files", "tls_certificate", "tls_authority")
    names += ("server_name", "server_connect", "server_tls", "server_identity")
    record, _ = run("mtls", {"doctor": doctor(names)}, database)
    assert missed(record) == ["agents without a valid certificate"]
    assert record["checks"][-1]["observed"] == ["late", "none", "revoked"]


def packed(age_days=1.0, **states):
    sections = {name: {"state": states.get(name, "present"), "missing": []} for name in ("logs", "sql", "screenshots")}
    return {
        "files": [{"name": "x", "bytes": 1}],
        "sections": sections,
        "collected_at_unix": NOW - age_days * 86_400,
        "manifest_sha256": "f" * 64,
    }


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (packed(), []),
        (packed(screenshots="absent"), ["screenshots"]),
        (packed(sql="partial"), ["sql"]),
        (packed(age_days=31), ["days since it was collected"]),
    ],
    ids=["well", "no-pictures", "rows-missing", "old"],
)
def test_an_archived_pack_has_what_the_box_asks_for(tmp_path, answer, names):
    record, course = run("evidence", {"evidence verify": answer}, pack=tmp_path / "pack")
    assert missed(record) == names
    assert course.asked == [f"evidence verify {tmp_path / 'pack'}"]


def test_a_pack_that_does_not_verify_fails(tmp_path):
    record, _ = run("evidence", {"evidence verify": EvidenceError("was changed")}, pack=tmp_path / "pack")
    assert record["error"] == "was changed"
    record, _ = run("evidence", {})
    assert "no evidence pack was named" in record["error"]


def test_the_runbook_is_the_simulated_drill_apart_from_this_machine():
    titles = ("Go back to the last good generation", "Take the liars' votes", "Every step is on record", "one more")
    steps = [{"title": title, "facts": {}} for title in titles]
    record, course = run("runbook", {"simulate drill": {"complete": True, "steps": steps}})
    assert (record["passed"], course.asked) == (True, ["simulate drill"])
    record, _ = run("runbook", {"simulate drill": {"complete": True, "steps": steps[1:]}})
    assert not record["passed"]


@pytest.mark.parametrize("drill", DRILLS)
def test_a_drill_where_there_is_nothing_fails_and_says_why(drill):
    record, _ = run(drill, {})
    assert not record["passed"]
    assert record["error"]
    json.dumps(record)

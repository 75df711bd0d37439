"""Telemetry over HTTP, and what analysts see of it."""

import gzip
import json
import time

import pytest

HOSTILE = "\x1b[31m<script>alert(1)</script>=cmd()|{{7*7}}"


def alert(alert_id, **changes):
    return {
        "alert_id": alert_id,
        "host_id": "h",
        "observed_at_unix": time.time() - 60.0,
        "event_class": "process_exec",
        "process_key": "curl:sh",
        "confidence": "high",
        "response": "alert_only",
        "reasons": ["rule"],
        **changes,
    }


def batch(*alerts, agent_id="a1"):
    return {"agent_id": agent_id, "batch_id": "b1", "alerts": list(alerts)}


def test_alerts_go_in_and_come_out_as_json(a1, analyst):
    sent = a1.post("/api/v1/endpoint/telemetry", json=batch(alert("e1", command_line=HOSTILE), {"alert_id": "e2"}))
    assert sent.status_code == 200
    assert sent.json()["accepted"] == 1
    assert sent.json()["rejected"][0]["index"] == 1
    found = analyst.get("/api/v1/endpoint/event", params={"q": "<SCRIPT>"})
    assert found.headers["content-type"] == "application/json"
    assert found.headers["x-content-type-options"] == "nosniff"
    (incident,) = found.json()["incidents"]
    assert [event["event_id"] for event in incident["events"]] == ["e1"]
    event = analyst.get("/api/v1/endpoint/event/e1")
    assert event.json()["detail"]["command_line"] == HOSTILE
    assert event.headers["content-type"] == "application/json"


def test_bodies_may_be_compressed(a1):
    body = gzip.compress(json.dumps(batch(alert("e1"))).encode(), mtime=0)
    answer = a1.post("/api/v1/endpoint/telemetry", content=body, headers={"Content-Encoding": "gzip"})
    assert answer.json() == {"accepted": 1, "duplicate": 0, "rejected": []}


def test_an_agent_speaks_for_itself_alone(a1):
    answer = a1.post("/api/v1/endpoint/telemetry", json=batch(alert("e1"), agent_id="a2"))
    assert (answer.status_code, answer.json()["code"]) == (403, "identity_mismatch")
    answer = a1.post("/api/v1/endpoint/calibration", json={"agent_id": "a2", "batch_id": "b", "samples": []})
    assert (answer.status_code, answer.json()["code"]) == (403, "identity_mismatch")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"agent_id":"a1"}', b'{"a":NaN}', b"\xff"])
def test_what_cannot_be_read_is_the_callers_fault(a1, analyst, body):
    for answer in (
        a1.post("/api/v1/endpoint/telemetry", content=body),
        a1.post("/api/v1/endpoint/calibration", content=body),
        analyst.post("/api/v1/endpoint/feedback", content=body),
        analyst.patch("/api/v1/endpoint/incident/i1", content=body),
    ):
        assert 400 <= answer.status_code < 500
        assert answer.json().keys() == {"message", "code", "status", "errors"}


def test_a_batch_larger_than_the_cap_is_refused_before_it_is_read(a1):
    body = gzip.compress(b'{"x":"' + b"a" * 5_000_000 + b'"}', mtime=0)
    answer = a1.post("/api/v1/endpoint/telemetry", content=body, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def test_calibration_samples_go_in_once(a1):
    sample = {
        "sample_id": "s1",
        "event_class": "dns_query",
        "features": [0.0] * 43,
        "contract_hash": "ab" * 32,
        "observed_at_unix": 1.7e9,
    }
    body = {"agent_id": "a1", "batch_id": "b", "samples": [sample]}
    assert a1.post("/api/v1/endpoint/calibration", json=body).json()["accepted"] == 1
    assert a1.post("/api/v1/endpoint/calibration", json=body).json()["duplicate"] == 1


def test_verdicts_and_incidents_over_http(a1, analyst):
    a1.post("/api/v1/endpoint/telemetry", json=batch(alert("e1")))
    said = analyst.post("/api/v1/endpoint/feedback", json={"event_id": "e1", "verdict": "benign", "note": HOSTILE})
    assert (said.status_code, said.json()["verdict"]) == (201, "benign")
    assert said.json()["history"][0]["note"] == HOSTILE
    wrong = analyst.post("/api/v1/endpoint/feedback", json={"event_id": "e1", "verdict": "meh"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "verdict")
    missing = analyst.post("/api/v1/endpoint/feedback", json={"event_id": "e9", "verdict": "benign"})
    assert missing.status_code == 404
    incident_id = analyst.get("/api/v1/endpoint/event").json()["incidents"][0]["incident_id"]
    changed = analyst.patch(f"/api/v1/endpoint/incident/{incident_id}", json={"status": "closed"})
    assert changed.json()["status"] == "closed"
    assert analyst.get("/api/v1/endpoint/event", params={"status": "open"}).json()["incidents"] == []


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "x"}, {"severity": "loud"}, {"cursor": "!"}, {"q": "x" * 201}]
)
def test_a_bad_parameter_is_named(analyst, query):
    answer = analyst.get("/api/v1/endpoint/event", params=query)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == next(iter(query))


def test_who_may_what(a1, analyst, nobody):
    assert a1.get("/api/v1/endpoint/event").status_code == 404
    assert analyst.post("/api/v1/endpoint/telemetry", json=batch()).status_code == 404
    assert nobody.get("/api/v1/endpoint/event").status_code == 401

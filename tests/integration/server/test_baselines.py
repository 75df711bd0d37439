"""Uploads, aggregation and seeds through a running server, on both databases."""

import gzip
import json
import time

import pytest
import zstandard
from server_place import server_place

from eguard.wire.baseline import BaselineBatch, BaselineRow, encode_baseline_batch
from eguard.wire.control import INCARNATION_HEADER

BATCH = "/endpoint/baseline/batch"


def row(key="bash:sshd", seq=1, share=0.5, samples=100):
    return BaselineRow(
        process_key=key,
        event_distribution={"process_exec": share, "file_open": 1 - share},
        sample_count=samples,
        entropy_threshold=3.0,
        learned_at_unix=1_772_000_000.0,
        seq=seq,
    )


def body(agent_id, *rows):
    return encode_baseline_batch(BaselineBatch(agent_id=agent_id, batch_id="b1", baselines=list(rows)))


@pytest.fixture
def place(tmp_path, database_url):
    with server_place(tmp_path, database_url) as running:
        yield running


def test_the_loop_of_the_manual(place):
    agents = {name: place.agent(name) for name in ("a1", "a2", "a3")}
    for name, client in agents.items():
        answer = client.post(BATCH, content=body(name, row(), row("curl:bash")), headers={INCARNATION_HEADER: "one"})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"accepted": 2, "unchanged": 0, "stale": 0, "rejected": []}
    admin = place.person()
    report = admin.post("/endpoint/baseline/aggregate", json={"min_agents": 3}).json()
    assert (report["generation"], report["aggregated"], report["agents"]) == (1, 2, 3)
    page = agents["a1"].get("/endpoint/baseline/fleet", params={"limit": 1}).json()
    assert (page["seeded"], page["generation"], page["seed_enabled"]) == (1, 1, True)
    assert page["fleet_baselines"][0]["process_key"] == "bash:sshd"
    rest = agents["a1"].get("/endpoint/baseline/fleet", params={"cursor": page["next_cursor"]}).json()
    assert [each["process_key"] for each in rest["fleet_baselines"]] == ["curl:bash"]
    assert rest["next_cursor"] is None


def test_what_arrives_again_or_late_changes_nothing(place):
    client = place.agent("a1")
    headers = {INCARNATION_HEADER: "one"}
    first = client.post(BATCH, content=body("a1", row(seq=5)), headers=headers).json()
    again = client.post(BATCH, content=body("a1", row(seq=5)), headers=headers).json()
    late = client.post(BATCH, content=body("a1", row(seq=4, share=0.1)), headers=headers).json()
    assert (first["accepted"], again["unchanged"], late["stale"]) == (1, 1, 1)
    reused = client.post(BATCH, content=body("a1", row(seq=5, share=0.9)), headers=headers).json()
    assert reused["rejected"][0]["code"] == "seq_reused"
    reinstalled = client.post(BATCH, content=body("a1", row(seq=1)), headers={INCARNATION_HEADER: "two"}).json()
    assert reinstalled["accepted"] == 1


def test_good_rows_are_stored_and_bad_ones_named(place):
    value = json.loads(body("a1", row("a:b"), row("c:d"), row("e:f")))
    value["baselines"][1]["event_distribution"] = {"process_exec": 0.7}
    answer = place.agent("a1").post(BATCH, json=value)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 2
    assert answer.json()["rejected"][0] | {"detail": ""} == {"index": 1, "code": "sum_not_one", "detail": ""}


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_bodies_may_be_compressed(place, packed):
    plain = body("a1", row())
    content = gzip.compress(plain) if packed == "gzip" else zstandard.ZstdCompressor().compress(plain)
    answer = place.agent("a1").post(BATCH, content=content, headers={"Content-Encoding": packed})
    assert answer.json()["accepted"] == 1


def test_an_agent_speaks_for_itself_alone_and_the_attempt_is_on_record(place):
    answer = place.agent("a1").post(BATCH, content=body("a2", row()))
    assert (answer.status_code, answer.json()["code"]) == (403, "identity_mismatch")
    records = place.context.audit.search(action="identity.refused").records
    assert [(each.principal, each.object_id) for each in records] == [("a1", "a2")]
    with place.context.database.read() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM endpoint_baseline").scalar() == 0


def test_a_policy_switches_uploads_and_seeds_off_within_a_second(place):
    client, admin = place.agent("a1"), place.person()
    assert client.post(BATCH, content=body("a1", row())).status_code == 200
    off = {"baseline_upload_enabled": False, "fleet_seed_enabled": False}
    posted = {"policy_id": "default", "policy_version": "v1", "policy_json": off}
    assert admin.post("/endpoint/policy", json=posted).status_code == 201
    committed = time.monotonic()
    while (answer := client.post(BATCH, content=body("a1", row(seq=2)))).status_code == 200:
        assert time.monotonic() - committed < 1.0
    assert (answer.status_code, answer.json()["code"]) == (403, "baseline_upload_disabled")
    page = client.get("/endpoint/baseline/fleet").json()
    assert (page["seed_enabled"], page["fleet_baselines"]) == (False, [])


def test_an_earlier_generation_comes_back_under_a_new_number(place):
    for name in ("a1", "a2", "a3"):
        assert place.agent(name).post(BATCH, content=body(name, row())).status_code == 200
    admin = place.person()
    first = admin.post("/endpoint/baseline/aggregate", json={}).json()["generation"]
    rows = admin.get("/endpoint/baseline/fleet").json()["fleet_baselines"]
    imported = admin.post(
        "/endpoint/baseline/fleet/import",
        json={
            "source_version": "workflow-7",
            "fleet_baselines": [rows[0] | {"process_key": "x:y", "source": "import"}],
        },
    )
    assert imported.json() == {"generation": first + 1, "imported": 1}
    back = admin.post("/endpoint/baseline/fleet/rollback", json={"generation": first, "reason": "drill"})
    assert back.json() == {"generation": first + 2, "rolled_back_to": first, "resolved_alarms": []}
    now = admin.get("/endpoint/baseline/fleet").json()
    assert [each["process_key"] for each in now["fleet_baselines"]] == ["bash:sshd"]
    assert admin.post("/endpoint/baseline/fleet/rollback", json={"generation": 99}).status_code == 404
    approved = admin.post("/endpoint/fleet/approve", json={"generation": first})
    assert approved.json() == {"reference_generation": first, "resolved_alarms": []}
    actions = [record.action for record in place.context.audit.search(object_type="fleet").records]
    assert actions == ["fleet.approve", "fleet.rollback", "fleet.import", "fleet.aggregate"]
    assert place.context.audit.verify().intact


def test_the_summary_counts_what_happened(place):
    assert place.agent("a1").post(BATCH, content=body("a1", row(), row("c:d"))).status_code == 200
    summary = place.person("analyst").get("/endpoint/ml-ops/summary", params={"range": "1h"}).json()
    assert summary["baseline_upload"] == {
        "rows_accepted": 2,
        "rows_per_minute": 2 / 60,
        "rejected": 0,
        "agents_uploading": 1,
    }
    assert place.person("analyst").get("/endpoint/ml-ops/summary", params={"range": "yesterday"}).status_code == 422

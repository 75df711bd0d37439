"""Whitelist, commands and tasks over HTTP: roles, statuses, and the one form of a refusal."""

import time

import pytest

HOSTILE = "\x1b[31m<script>=cmd(){{x}}"


def test_the_whitelist_is_read_by_analysts_and_changed_by_admins(analyst, admin):
    entry = {"kind": "domain", "value": "Example.org", "reason": "ours"}
    assert analyst.post("/api/v1/endpoint/whitelist", json=entry).status_code == 403
    made = admin.post("/api/v1/endpoint/whitelist", json=entry)
    assert (made.status_code, made.json()["value"]) == (201, "example.org")
    (listed,) = analyst.get("/api/v1/endpoint/whitelist", params={"kind": "domain"}).json()["entries"]
    assert listed == made.json()
    assert admin.post("/api/v1/endpoint/whitelist", json=entry).json()["code"] == "whitelist_exists"
    gone = f"/api/v1/endpoint/whitelist/{listed['entry_id']}"
    assert analyst.delete(gone).status_code == 403
    assert admin.delete(gone).json()["value"] == "example.org"
    assert admin.delete(gone).status_code == 404
    assert analyst.get("/api/v1/endpoint/whitelist").json()["entries"] == []


def test_a_bad_entry_names_its_field(admin):
    answer = admin.post("/api/v1/endpoint/whitelist", json={"kind": "hash", "value": HOSTILE, "reason": "x"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "value")
    answer = admin.post("/api/v1/endpoint/whitelist", json={"kind": "colour", "value": "red", "reason": "x"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "kind")
    assert admin.get("/api/v1/endpoint/whitelist", params={"kind": "colour"}).status_code == 422


def test_a_change_of_the_whitelist_raises_the_revision_that_an_agent_is_told(context, admin):
    before = context.policies.revision_for("a1")
    admin.post("/api/v1/endpoint/whitelist", json={"kind": "rule", "value": "r1", "reason": "x"})
    deadline = time.monotonic() + 5.0
    while context.policies.revision_for("a1") <= before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_isolation_goes_from_an_admin_to_the_agent_and_its_answer_back(a1, caller, analyst, admin):
    wanted = {"agent_id": "a1", "reason": "beacon"}
    assert analyst.post("/api/v1/endpoint/nac/isolate", json=wanted).status_code == 403
    queued = admin.post("/api/v1/endpoint/nac/isolate", json=wanted)
    assert queued.status_code == 202
    assert caller(agent="a2").get("/api/v1/endpoint/command/pending").json() == {"commands": []}
    (command,) = a1.get("/api/v1/endpoint/command/pending").json()["commands"]
    assert (command["kind"], command["command_id"]) == ("isolate", queued.json()["command_id"])
    said = {"command_id": command["command_id"], "status": "done", "detail": HOSTILE}
    assert caller(agent="a2").post("/api/v1/endpoint/command/ack", json=said).status_code == 404
    assert a1.post("/api/v1/endpoint/command/ack", json=said).status_code == 200
    (status,) = admin.get("/api/v1/endpoint/nac/status", params={"agent_id": "a1"}).json()["agents"]
    assert (status["state"], status["commands"][0]["result"]["detail"]) == ("isolated", HOSTILE)
    assert admin.post("/api/v1/endpoint/nac/allow", json=wanted).json()["kind"] == "allow"


@pytest.mark.parametrize("reason", ["", "x" * 256, "a\nb", HOSTILE])
def test_a_reason_is_one_printable_line(admin, reason):
    answer = admin.post("/api/v1/endpoint/nac/isolate", json={"agent_id": "a1", "reason": reason})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "reason")


def test_an_unknown_agent_is_named(admin):
    answer = admin.post("/api/v1/endpoint/nac/isolate", json={"agent_id": "a9", "reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_agent")


def test_tasks_are_listed_run_and_looked_up(context, analyst, admin):
    assert analyst.get("/api/v1/config/maintenance_tasks").status_code == 403
    path = "/api/v1/config/maintenance_task/session_cleanup"
    assert admin.post(f"{path}/run").json()["code"] == "scheduler_stopped"
    context.scheduler.start(context)
    started = admin.post(f"{path}/run")
    assert (started.status_code, started.json()["status"]) == (202, "running")
    deadline = time.monotonic() + 10.0
    while (runs := admin.get(f"{path}/runs").json()["runs"])[0]["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (run,) = runs
    assert (run["run_id"], run["status"], run["started_by"]) == (started.json()["run_id"], "success", "ada")
    assert run["detail"] == {"sessions_removed": 0, "commands_expired": 0}
    tasks = {task["task_id"]: task for task in admin.get("/api/v1/config/maintenance_tasks").json()["tasks"]}
    assert {"fleet_aggregate", "session_cleanup", "tuf_refresh"} <= tasks.keys()
    assert tasks["session_cleanup"]["last_run"] == run
    assert admin.post("/api/v1/config/maintenance_task/lunch/run").status_code == 404
    assert admin.get("/api/v1/config/maintenance_task/lunch/runs").status_code == 404

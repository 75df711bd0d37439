"""Policies through a running server: agents that wait, the kill switch by its deadline, the command line."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from server_place import CONSOLE, server_place
from typer.testing import CliRunner

from eguard.cli.app import app
from eguard.clock import SystemClock
from eguard.fleet.database import Database
from eguard.policy import canary_bucket, open_policy, parse_policy_document
from eguard.server.assembly import KEYS_NAME
from eguard.server.services.policy_assembly import open_policies
from eguard.wire.baseline import BaselineBatch, BaselineRow, encode_baseline_batch
from eguard.wire.bodies import decode_body
from eguard.wire.policy import SignedPolicy

BATCH = "/endpoint/baseline/batch"
KILL = {"baseline_upload_enabled": False, "fleet_seed_enabled": False}
POLICY = {
    "policy_id": "mlops-rollout",
    "policy_version": "v1",
    "policy_json": {"baseline_upload_canary_percent": 0, "fleet_seed_canary_percent": 0},
}


@pytest.fixture
def place(tmp_path):
    with server_place(tmp_path) as running:
        yield running


@pytest.fixture
def command(place, monkeypatch):
    """Run `eguard policy ...` against the server and return its exit code and what it printed."""
    monkeypatch.setenv("EGUARD_API", f"https://127.0.0.1:{place.running.admin_port}")
    monkeypatch.setenv("EGUARD_API_TOKEN", place.token())
    monkeypatch.setenv("EGUARD_TLS_CA", str(place.authority_file))
    monkeypatch.setenv("COLUMNS", "200")
    # The server logs in this process: to a stream that the runner closes, if a command set it up.
    monkeypatch.setattr("eguard.cli.app.configure_logging", lambda **_: None)

    def run(*arguments, given=None):
        result = CliRunner().invoke(app, ["policy", *arguments], input=given, catch_exceptions=False)
        return result.exit_code, result.stdout

    return run


def upload(client, agent_id, seq=1):
    row = BaselineRow(
        process_key="bash:sshd",
        event_distribution={"process_exec": 1.0},
        sample_count=100,
        entropy_threshold=3.0,
        learned_at_unix=1_772_000_000.0,
        seq=seq,
    )
    return client.post(
        BATCH, content=encode_baseline_batch(BaselineBatch(agent_id=agent_id, batch_id="b", baselines=[row]))
    )


def enrol(place, *names):
    for name in names:
        assert upload(place.agent(name), name).status_code == 200


def fetch(client, revision=-1, wait=0.0):
    return client.get("/endpoint/policy", params={"revision": revision, "wait": wait})


def test_an_agent_that_waits_is_told_of_the_kill_switch_at_once(place, command):
    trusted = {key.key_id: key.public_key for key in place.context.policies.trusted_keys()}
    agents = {f"a{number}": place.agent(f"a{number}") for number in range(8)}
    first = {name: decode_body(fetch(client).content, SignedPolicy) for name, client in agents.items()}
    revisions = {
        name: open_policy(signed, trusted, agent_id=name, minimum_revision=0).revision for name, signed in first.items()
    }
    told = {}

    def wait(name):
        answer = fetch(agents[name], revisions[name], 30.0)
        told[name] = time.monotonic(), answer

    with ThreadPoolExecutor(len(agents)) as pool:
        waiting = [pool.submit(wait, name) for name in agents]
        time.sleep(0.7)
        assert not told
        began = time.monotonic()
        assert command("kill", "--reason", "drill", "--json")[0] == 0
        committed = time.monotonic()
        for each in waiting:
            each.result()
    for name, (at, answer) in told.items():
        assert began < at < committed + 2.0
        payload = open_policy(
            decode_body(answer.content, SignedPolicy), trusted, agent_id=name, minimum_revision=revisions[name] + 1
        )
        assert payload.policy == {**payload.policy, **KILL}


def test_uploads_are_refused_within_a_second_of_a_commit_by_another_process(place):
    client = place.agent("a1")
    assert upload(client, "a1").status_code == 200
    database = Database(place.settings.fleet_url)
    elsewhere = open_policies(database, SystemClock(), place.settings.server_state_path / KEYS_NAME)
    elsewhere.policies.create(CONSOLE, "default", "v1", parse_policy_document(KILL))
    committed = time.monotonic()
    seq = 2
    while (answer := upload(client, "a1", seq)).status_code == 200:
        assert time.monotonic() - committed < 1.0
        seq += 1
    assert (answer.status_code, answer.json()["code"]) == (403, "baseline_upload_disabled")
    assert client.get("/endpoint/baseline/fleet").json()["seed_enabled"] is False
    database.dispose()


def test_outside_the_cohort_uploads_are_refused_and_seeds_empty(place):
    names = sorted((f"agent-{index}" for index in range(40)), key=lambda name: canary_bucket(name, "mlops-rollout"))
    inside, outside = place.agent(names[0]), place.agent(names[-1])
    share = (canary_bucket(names[0], "mlops-rollout") + 1) / 100
    document = {"baseline_upload_canary_percent": share, "fleet_seed_canary_percent": share}
    person = place.person()
    assert person.post("/endpoint/policy", json=POLICY | {"policy_json": document}).status_code == 201
    person.post("/endpoint/policy/assign", json={"group": "default", "policy_id": "mlops-rollout"})
    assert upload(inside, names[0]).status_code == 200
    answer = upload(outside, names[-1])
    assert (answer.status_code, answer.json()["code"]) == (403, "not_in_canary")
    assert outside.get("/endpoint/baseline/fleet").json()["seed_enabled"] is False
    assert inside.get("/endpoint/baseline/fleet").json()["seed_enabled"] is True


def test_waiting_agents_hold_nobody_up(place):
    clients = [place.agent(f"a{number}") for number in range(24)]
    revision = decode_body(fetch(clients[0]).content, SignedPolicy)
    revision = json.loads(revision.payload)["revision"]
    with ThreadPoolExecutor(len(clients)) as pool:
        waiting = [pool.submit(fetch, client, revision, 2.5) for client in clients]
        time.sleep(0.5)
        began = time.monotonic()
        assert place.person().get("/endpoint/policy").status_code == 200
        assert upload(place.agent("busy"), "busy").status_code == 200
        assert time.monotonic() - began < 2.0
        assert {each.result().status_code for each in waiting} == {204}


def test_the_whole_rollout_from_the_command_line(place, command, tmp_path):
    enrol(place, "a0", "a1", "a2")
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(POLICY))
    assert json.loads(command("create", str(file), "--json")[1])["changed"]
    assert not json.loads(command("create", "-", "--json", given=json.dumps(POLICY))[1])["changed"]
    given = json.loads(command("assign", "mlops-rollout", "--group", "default", "--json")[1])
    assert given["agents"] == 3
    seen = json.loads(command("preview", "--percent", "100", "--policy", "mlops-rollout", "--json")[1])
    assert (seen["agents"], seen["cohort_size"]) == (3, 3)
    assert "a1" in command("preview", "--percent", "100")[1]

    code, text = command("advance", "mlops-rollout", "--json")
    assert code == 1
    assert "dwell" in [cause["code"] for cause in json.loads(text)["causes"]]
    assert "minutes" in command("advance", "mlops-rollout")[1]
    forced = command("advance", "mlops-rollout", "--force", "--reason", "drill", "--to", "20", "--json")
    assert (forced[0], json.loads(forced[1])["stage_percent"]) == (0, 20.0)
    status = json.loads(command("status", "mlops-rollout", "--json")[1])["rollouts"][0]
    assert (status["stage_percent"], status["agents"]) == (20.0, 3)
    assert "20 %" in command("status")[1]

    assert json.loads(command("freeze", "--reason", "drift", "--json")[1])["frozen"] == ["mlops-rollout"]
    assert "frozen: drift" in command("advance", "mlops-rollout")[1].replace("\n", " ")
    assert json.loads(command("resume", "--reason", "organic", "--json")[1])["resumed"] == ["mlops-rollout"]
    assert "mlops-rollout" in command("kill", "--reason", "drill")[1]
    back = json.loads(command("rollback", "mlops-rollout", "--reason", "drill", "--json")[1])
    assert [step["step"] for step in back["steps"]] == [1, 2, 3, 4, 5]
    assert "reassigned" in command("rollback", "mlops-rollout", "--reason", "again")[1]


def test_looking_and_taking_back_from_the_command_line(place, command):
    enrol(place, "a1")
    command("create", "-", given=json.dumps(POLICY))
    command("assign", "mlops-rollout", "--agent", "a1", "--version", "v1")
    seen = json.loads(command("list", "--json")[1])
    assert seen["agents"] == {"mlops-rollout": 1}
    text = command("list")[1]
    assert "mlops-rollout" in text
    assert "agent a1" in text
    assert json.loads(command("show", "--agent", "a1", "--json")[1])["source"] == "agent"
    assert "history" in command("show", "mlops-rollout")[1].lower()
    assert "revision" in command("withdraw", "--agent", "a1")[1]
    assert json.loads(command("reissue", "--reason", "restored", "--json")[1])["revision"]
    assert "active_from_unix" in command("rotate-key")[1]
    assert command("show")[0] == 2
    assert command("preview")[0] == 2


def test_buckets_need_no_server(monkeypatch):
    monkeypatch.delenv("EGUARD_API_TOKEN", raising=False)
    names = ["agent-31bbb93f38b4", "höst", "agent-000000"]

    def run(*arguments):
        given = "\n".join([*names, "", ""]).encode()
        return CliRunner().invoke(app, ["policy", "bucket", "--salt", "mlops-rollout", *arguments], input=given)

    expected = [(name, canary_bucket(name, "mlops-rollout")) for name in names]
    lines = run("--percent", "88.93").stdout.splitlines()
    assert lines == [f"{name}\t{bucket}\t{'in' if bucket < 8893 else 'out'}" for name, bucket in expected]
    rows = [json.loads(line) for line in run("--percent", "88.92", "--json").stdout.splitlines()]
    assert rows == [{"agent_id": name, "bucket": bucket, "is_in": bucket < 8892} for name, bucket in expected]
    assert run("--percent", "101").exit_code == 2
    assert run("--percent", "5", "--salt", "x" * 65).exit_code == 2

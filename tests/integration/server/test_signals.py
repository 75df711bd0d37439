"""The signals and their alerts through a running server: from requests of agents to the operators' webhook."""

import json
import time

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from notify_receivers import Receiver
from server_place import server_place

from eguard.clock import SimulatedClock
from eguard.errors import FleetStoreError
from eguard.fleet.tables import signal_count
from eguard.wire.baseline import BaselineBatch, BaselineRow, encode_baseline_batch
from eguard.wire.bodies import encode_body
from eguard.wire.control import INCARNATION_HEADER, Heartbeat

BATCH, BEAT, SUMMARY = "/endpoint/baseline/batch", "/endpoint/heartbeat", "/endpoint/ml-ops/summary"
HEADERS = {INCARNATION_HEADER: "one"}
ROW = BaselineRow(
    process_key="bash:sshd",
    event_distribution={"process_exec": 0.5, "file_open": 0.5},
    sample_count=100,
    entropy_threshold=3.0,
    learned_at_unix=1_772_000_000.0,
    seq=1,
)


@pytest.fixture
def clock():
    return SimulatedClock(time.time() // 300.0 * 300.0 + 1.0)


@pytest.fixture
def hook():
    opened = Receiver(script=[500])  # the first attempt fails
    yield opened
    opened.close()


@pytest.fixture
def place(tmp_path, clock, hook):
    url = f"http://127.0.0.1:{hook.port}/eguard"
    with server_place(tmp_path, clock=clock, notify_webhook_url=url) as running:
        yield running


def body(agent_id, *rows):
    return encode_baseline_batch(BaselineBatch(agent_id=agent_id, batch_id="b", baselines=list(rows)))


def bad(agent_id):
    content = json.loads(body(agent_id, ROW))
    content["baselines"][0]["event_distribution"] = {"process_exec": 2.0}
    return json.dumps(content).encode()


def beat(agent_id, status="active", **values):
    given = {"agent_id": agent_id, "incarnation": "one", "agent_version": "1", "baseline_status": status}
    return encode_body(Heartbeat(**given, **values))


def states(place):
    return place.context.alerts.look()


def until(condition):
    deadline = time.monotonic() + 15.0
    while not (found := condition()):
        assert time.monotonic() < deadline, "this did not come"
        time.sleep(0.02)
    return found


def told(hook):
    return [message for _, _, body in hook.requests if (message := json.loads(body))]


def test_rejects_in_each_of_six_windows_reach_the_webhook_once_however_often_it_fails(place, clock, hook):
    agent, start = place.agent("a1"), clock.now()
    for window in range(6):
        clock.advance_to(start + 300.0 * window)
        content = b"{" if window == 3 else bad("a1")  # a row that is refused, or a whole upload
        answer = agent.post(BATCH, content=content, headers=HEADERS)
        assert answer.status_code == (400 if window == 3 else 200)
        assert states(place)["upload_rejects"] == "ok"
    clock.advance_to(start + 1800.0 + 80.0)
    assert states(place)["upload_rejects"] == "alert"
    until(lambda: hook.requests)
    until(lambda: clock.advance_to(clock.now() + 1.0) or len(hook.requests) > 1)
    messages = told(hook)
    assert len({message["id"] for message in messages}) == 1
    assert messages[0]["detail"]["rule"] == "upload_rejects"
    assert messages[0]["detail"]["numbers"]["rejects_by_window"] == [1] * 6
    summary = place.person("analyst").get(SUMMARY).json()
    assert summary["baseline_upload"]["rejected"] == 6
    metrics = place.person(None).get(f"https://127.0.0.1:{place.running.admin_port}/metrics").text
    assert 'eguard_alert_firing{rule="upload_rejects"} 1.0' in metrics


def test_uploads_that_a_policy_refuses_are_no_rejects(place, monkeypatch):
    off = place.context.policies.controls_for("a1")._replace(upload_enabled=False)
    monkeypatch.setattr(place.context.policies, "known_controls", lambda _: off)
    agent = place.agent("a1")
    assert agent.post(BATCH, content=body("a1", ROW), headers=HEADERS).status_code == 403
    summary = place.person("analyst").get(SUMMARY).json()
    assert summary["baseline_upload"]["rejected"] == 0


def test_aggregations_that_fail_twice_in_a_row_alert(place, monkeypatch):
    admin = place.person()

    def refuse(*_, **__):
        raise FleetStoreError("away", reason="database_unavailable")

    def run():
        begun = admin.post("/config/maintenance_task/fleet_aggregate/run").json()["run_id"]
        runs = "/config/maintenance_task/fleet_aggregate/runs"
        until(lambda: any(r["run_id"] == begun and r["status"] != "running" for r in admin.get(runs).json()["runs"]))

    with monkeypatch.context() as broken:
        broken.setattr(place.context.fleet, "aggregate", refuse)
        run()
        assert states(place)["aggregation"] == "ok"
        place.context.clock.advance_to(place.context.clock.now() + 1.0)
        run()
        assert states(place)["aggregation"] == "alert"


def test_many_stale_transitions_at_once_alert_and_a_restarted_agent_is_none(place, clock):
    agents = {name: place.agent(name) for name in ("a1", "a2", "a3", "a4", "a5", "a6")}
    start = clock.now()
    for client_name, client in agents.items():
        assert client.post(BEAT, content=beat(client_name)).status_code == 200
    counted = {"name": "accepted_rows", "server_id": "earlier", "value": 0}
    first = start // 300.0 * 300.0
    with place.context.database.write() as connection:  # a server counted for a day before the last one
        rows = [{**counted, "bucket_at": first + 300.0 * bucket} for bucket in range(300)]
        connection.execute(sa.insert(signal_count), rows)
    clock.advance_to(start + 2.2 * 86_400.0)
    for name in ("a1", "a2", "a3", "a4"):
        for _ in range(3):  # it is stale once, however often it says so
            agents[name].post(BEAT, content=beat(name, "stale"))
    clock.advance_to(clock.now() + 3600.0)
    assert states(place)["stale_transitions"] == "ok"
    for name in ("a5", "a6"):
        agents[name].post(BEAT, content=beat(name, "stale"))
    assert states(place)["stale_transitions"] == "alert"


def test_seeds_that_nobody_applies_alert_until_somebody_does(place, clock):
    names = ("a1", "a2", "a3")
    agents = {name: place.agent(name) for name in names}
    start = clock.now()
    for name, client in agents.items():
        assert client.post(BATCH, content=body(name, ROW), headers=HEADERS).status_code == 200
    assert place.person().post("/endpoint/baseline/aggregate", json={}).json()["aggregated"] == 1
    for step in range(8):
        clock.advance_to(start + 300.0 * step)
        agents["a1"].post(BEAT, content=beat("a1", "learning"))
        place.context.counts.flush()
        if step < 6:
            assert states(place)["seed_effectiveness"] != "alert"
    assert states(place)["seed_effectiveness"] == "alert"
    assert agents["a1"].get("/endpoint/baseline/fleet").json()["seeded"] == 1
    seeded = replace(ROW, seq=2, prior_generation=1)
    agents["a1"].post(BATCH, content=body("a1", seeded, replace(ROW, process_key="ls:sh")), headers=HEADERS)
    for _ in range(12):
        clock.advance_to(clock.now() + 60.0)
        agents["a1"].post(BEAT, content=beat("a1", "learning"))
        found = states(place)["seed_effectiveness"]
    assert found == "ok"
    summary = place.person("analyst").get(SUMMARY).json()
    assert summary["fleet_seed"] == {
        "rows_fetched": 1,
        "rows_applied": 1,
        "keys_asked": 2,
        "keys_applied": 1,
        "hit_rate": 0.5,
    }


def test_trees_and_destinations_of_agents_are_added_up(place):
    client, other = place.agent("a1"), place.agent("a2")
    for seen, odd in ((100, 1), (160, 4), (10, 2)):  # the last after a restart of the agent
        assert client.post(BEAT, content=beat("a1", trees_seen=seen, trees_anomalous=odd)).status_code == 200
    days = {"destinations_scored": 100, "destinations_alpha": 0.01}
    assert other.post(BEAT, content=beat("a2", destinations_confirmed=6, **days)).status_code == 200
    summary = place.person("analyst").get(SUMMARY).json()
    assert summary["process_trees"] == {"seen": 170, "anomalous": 6, "rate": 6 / 170}
    assert summary["high_mi_destinations"]["above"] == [{"agent_id": "a2", "confirmed": 6, "scored": 100, "bound": 5}]
    assert summary["not_measured"] == ["calibration"]  # no bundle is served
    assert states(place)["high_mi_destinations"] == "alert"


def test_a_fleet_whose_agents_measure_nothing_says_so(place):
    place.agent("a1").post(BEAT, content=beat("a1"))
    summary = place.person("analyst").get(SUMMARY).json()
    assert summary["not_measured"] == ["calibration", "high_mi_destinations", "process_trees"]

"""A whole agent beside a server on a real socket: it reports, obeys, uploads, takes seeds, and outlives trouble."""

import contextlib
import json
import threading
import time

import pytest
import structlog

from eguard.agent.service import Source, run_agent
from eguard.baseline.store_dump import read_store
from eguard.errors import ConfigError
from eguard.wire.fleet import FleetPage, FleetRow

T0 = 1_700_000_000.0
BATCH = "/endpoint/baseline/batch"


@pytest.fixture
def recording(tmp_path):
    """A recording of one host with 40 process keys of 30 events each."""
    path = tmp_path / "events.jsonl"
    rows = [
        {"time_unix": T0 + 40 * turn + key, "event_class": "file_open", "host_id": "h",
         "comm": f"tool{key}", "parent_comm": "cron", "target": f"/tmp/{turn}", "pid": 100 + key}
        for turn in range(30) for key in range(40)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Running:
    """An agent in a thread of its own."""

    def __init__(self, settings, recording, linger_seconds=30.0):
        self.stop = threading.Event()
        self.logs = []
        self.summary = None
        self.failure = None
        self.runtime = None
        self._began = threading.Event()

        def work():
            try:
                self.summary = run_agent(
                    settings,
                    Source("replay", recording),
                    stop=self.stop,
                    linger_seconds=linger_seconds,
                    started=self._started,
                )
            except BaseException as error:
                self.failure = error
                self._began.set()
                raise

        self.thread = threading.Thread(target=work)
        self.thread.start()
        assert self._began.wait(20.0)

    def _started(self, runtime):
        self.runtime = runtime
        self._began.set()

    def end(self):
        self.stop.set()
        self.thread.join(10.0)
        assert not self.thread.is_alive()
        return self.summary


@pytest.fixture
def run(recording):
    """Start agents; all are ended."""
    running = []

    def start(settings, **given):
        running.append(Running(settings, recording, **given))
        return running[-1]

    yield start
    for each in running:
        each.end()


def wait_until(condition, seconds=10.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_an_agent_reports_uploads_and_forgets_what_the_server_has(control_server, enrolled, run):
    with structlog.testing.capture_logs() as logs:
        agent = run(enrolled)
        wait_until(lambda: len(control_server.rows) == 40)
        beat = control_server.wait_for("/endpoint/heartbeat", 3)[-1].json
        inventory = control_server.wait_for("/endpoint/inventory")[0].json
        summary = agent.end()
    assert beat["agent_id"] == inventory["agent_id"] == "h"
    assert beat["policy_revision"] == 1
    assert beat["events_total"] == 1200
    assert beat["rss_bytes"] > 1e7
    assert inventory["os_type"] == "linux"
    assert inventory["memory_bytes"] > 1e8
    sent = control_server.seen[BATCH]
    assert {seen.headers["x-eguard-incarnation"] for seen in sent} == {beat["incarnation"]}
    assert {row["sample_count"] for row in control_server.rows.values()} == {30}
    control = summary["control"]
    assert control["connected"]
    assert control["policy"]["upload"] == {"enabled": True, "decided_by": "environment", "percent": 100.0}
    assert control["uploads"]["rejected"] == 0
    assert control["working"]
    assert summary["agent_id"] == "h"  # taken from the enrolment
    state, _ = read_store(enrolled.baseline_folder)
    assert not state.table.dirty_since.any()
    events = [line["event"] for line in logs]
    assert events.count("mtls channel established") == 1
    assert "uploaded baseline profile batch" in events


def test_a_kill_switch_stops_uploads_within_seconds_and_survives_a_restart(control_server, enrolled, run):
    agent = run(enrolled)
    control_server.wait_for(BATCH)
    with structlog.testing.capture_logs() as logs:
        control_server.set_policy(2, {"baseline_upload_enabled": False, "fleet_seed_enabled": False})
        began = time.monotonic()
        wait_until(lambda: any(line["event"] == "updated baseline upload flag from policy" for line in logs))
        assert time.monotonic() - began < 5.0
    assert "updated fleet-seed flag from policy" in [line["event"] for line in logs]
    summary = agent.end()
    assert summary["control"]["policy"]["upload"]["decided_by"] == "policy"
    control_server.answers["/endpoint/policy"] = lambda _: (500, b"down")
    count, beats = control_server.count(BATCH), control_server.count("/endpoint/heartbeat")
    again = run(enrolled)
    control_server.wait_for("/endpoint/heartbeat", beats + 4)  # detection and heartbeats go on
    assert control_server.count(BATCH) == count
    assert again.end()["control"]["policy"]["revision"] == 2


@pytest.mark.parametrize("kind", ["garbage", "wrong_key", "lower"])
def test_a_bad_policy_enables_nothing(kind, control_server, enrolled, signer, run):
    off = {"baseline_upload_enabled": False}
    control_server.set_policy(5, off)
    agent = run(enrolled.model_copy(update={"policy_wait_seconds": 1.0}))
    control_server.wait_for("/endpoint/policy", 2)
    on = {"baseline_upload_enabled": True}
    bad = {"garbage": b"\xff{{{", "wrong_key": type(signer)().sign(6, on), "lower": signer.sign(4, on)}[kind]
    control_server.answers["/endpoint/policy"] = lambda _: bad
    control_server.revision = 6  # the heartbeat says that there is news
    polls = control_server.count("/endpoint/policy")
    control_server.wait_for("/endpoint/policy", polls + 1)
    beats = control_server.count("/endpoint/heartbeat")
    control_server.wait_for("/endpoint/heartbeat", beats + 3)
    policy = agent.end()["control"]["policy"]
    assert policy["revision"] == 5
    assert policy["upload"]["enabled"] is False
    assert control_server.count(BATCH) == 0


def test_nothing_is_uploaded_before_a_good_policy_is_known(control_server, enrolled, run):
    control_server.answers["/endpoint/policy"] = lambda _: (503, b"")
    agent = run(enrolled)
    control_server.wait_for("/endpoint/heartbeat", 4)
    assert control_server.count(BATCH) == 0
    assert agent.end()["control"]["policy"]["upload"]["decided_by"] == "no policy yet"


def test_a_damaged_policy_file_enables_nothing(control_server, enrolled, run):
    control_server.set_policy(3, {"baseline_upload_enabled": False})
    agent = run(enrolled)
    wait_until((enrolled.state_path / "control" / "policy.json").exists)
    agent.end()
    (enrolled.state_path / "control" / "policy.json").write_bytes(b"{")
    control_server.answers["/endpoint/policy"] = lambda _: (500, b"")
    again = run(enrolled)
    beats = control_server.count("/endpoint/heartbeat")
    control_server.wait_for("/endpoint/heartbeat", beats + 4)
    assert again.end()["control"]["policy"]["upload"]["enabled"] is False
    assert control_server.count(BATCH) == 0


def seeds(generation, n=40, **given):
    rows = [
        FleetRow(process_key=f"tool{key}:cron", median_distribution={"file_open": 0.5, "dns_query": 0.5},
                 agent_count=3, stddev_kl=0.0, tolerated_faults=1, source="aggregate")
        for key in range(n)
    ]  # fmt: skip
    fields = {"seeded": n, "generation": generation, "seed_enabled": True, "fleet_baselines": rows}
    return FleetPage(**(fields | given))


@pytest.mark.parametrize("shards", [1, 2])
def test_seeds_are_taken_whole_and_lead_to_a_new_upload(shards, control_server, enrolled, run):
    with structlog.testing.capture_logs() as logs:
        agent = run(enrolled.model_copy(update={"detection_shards": shards}))
        wait_until(lambda: len(control_server.rows) == 40)
        control_server.fleet = seeds(7)
        wait_until(lambda: {row.get("prior_generation") for row in control_server.rows.values()} == {7})
        agent.end()
    applied = [line for line in logs if line["event"] == "applied fleet baseline seed profiles"]
    assert [(line["generation"], line["rows"], line["profiles_seeded"]) for line in applied] == [(7, 40, 40)]
    state, _ = read_store(enrolled.baseline_folder)
    assert state.table.seeds.generation == 7
    assert {row["sample_count"] for row in control_server.rows.values()} == {30}  # a seed is never added to counts


def test_a_mode_is_applied_once_also_over_a_restart(control_server, enrolled, run):
    control_server.set_policy(4, {"baseline_mode": "force_active"})
    agent = run(enrolled)
    wait_until(lambda: agent.runtime.baseline.store.facts.policy_revision == 4)
    agent.end()
    state, _ = read_store(enrolled.baseline_folder)
    assert state.facts.status.name == "ACTIVE"
    control_server.set_policy(6, {"baseline_mode": "learning"}, mode_revision=5)
    again = run(enrolled)
    wait_until(lambda: again.runtime.baseline.store.facts.policy_revision == 5)
    assert again.runtime.baseline.store.facts.status.name == "LEARNING"
    control_server.set_policy(7, {"baseline_mode": "learning"}, mode_revision=5)  # another field changed
    learned = again.runtime.baseline.store.facts.learning_started
    beats = control_server.seen["/endpoint/heartbeat"]
    wait_until(lambda: any(beat.json["policy_revision"] == 7 for beat in beats))
    assert again.runtime.baseline.store.facts.learning_started == learned
    again.end()


def test_an_agent_works_on_without_its_server_and_sends_everything_later(control_server, enrolled, run):
    good = dict(control_server.answers)
    control_server.answers = {path: lambda _: (500, b"") for path in good}
    agent = run(enrolled)
    control_server.wait_for("/endpoint/heartbeat", 2)
    wait_until(lambda: int(agent.runtime.totals.events.sum()) == 1200)
    control_server.answers = good
    wait_until(lambda: len(control_server.rows) == 40, seconds=20.0)
    agent.end()


@pytest.mark.parametrize("file", ["agent.pem", "ca.pem"])
def test_an_agent_with_a_server_does_not_start_without_its_certificates(file, control_server, enrolled, recording):
    path = enrolled.tls_folder / file
    path.write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        run_agent(enrolled, Source("replay", recording), stop=threading.Event())
    assert str(path) in caught.value.message


def test_an_agent_under_another_name_than_its_certificates_does_not_start(enrolled, recording):
    other = enrolled.model_copy(update={"agent_id": "other"})
    with pytest.raises(ConfigError, match="enrolled as 'h'"):
        run_agent(other, Source("replay", recording), stop=threading.Event())


def test_it_stops_promptly_while_the_server_holds_its_requests(control_server, enrolled, run):
    def hold(request):
        with contextlib.suppress(OSError):
            control_server.stopping.wait(20.0)

    control_server.answers[BATCH] = hold
    agent = run(enrolled)
    wait_until(lambda: BATCH in control_server.order and "/endpoint/policy" in control_server.order)
    began = time.monotonic()
    agent.end()
    assert time.monotonic() - began < 3.0

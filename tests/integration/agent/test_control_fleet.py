"""Three agents and the fleet's own server: enrolment, the manual's loop, the kill switch, a revoked certificate."""

import json
import threading
import time
from contextlib import contextmanager

import pytest
import structlog
from server_place import CONSOLE, server_place

from eguard.agent.buffer import AlertBuffer
from eguard.agent.control.client import ControlClient
from eguard.agent.control.credentials import TlsFiles, read_certificate
from eguard.agent.control.enrol import Renewal, enrol
from eguard.agent.control.enrolment_files import read_enrolment
from eguard.agent.service import Source, run_agent
from eguard.baseline.store_dump import read_store
from eguard.detection.alert import Alert
from eguard.errors import ConfigError, ServerRefusalError, ServerUnavailableError
from eguard.settings import AgentSettings
from eguard.wire.control import Heartbeat, HeartbeatAnswer

T0 = 1_700_000_000.0
NAMES = ("agent-a", "agent-b", "agent-c")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "events.jsonl"
    rows = [
        {"time_unix": T0 + 10 * turn + key, "event_class": "file_open" if turn % 2 else "dns_query", "host_id": "h",
         "comm": f"tool{key}", "parent_comm": "cron", "target": "/srv/x", "pid": 100 + key}
        for turn in range(40) for key in range(10)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings_of(folder, name):
    return AgentSettings(
        agent_id=name,
        state_path=folder / name,
        heartbeat_seconds=0.2,
        policy_wait_seconds=5.0,
        baseline_upload_seconds=0.3,
        fleet_seed_seconds=0.3,
        telemetry_seconds=0.2,
    )


def enrolled(place, folder, name, **given):
    """Enrol an agent and return its settings."""
    settings = settings_of(folder, name)
    token = place.context.enrolment.tokens.create(CONSOLE).secret
    enrol(
        settings.tls_folder,
        f"https://localhost:{place.running.agent_port}",
        place.authority_file,
        lambda: token,
        agent_id=name,
        incarnation=lambda: f"life-{name}"[:64],
        **given,
    )
    return settings


@contextmanager
def running(settings, recording):
    """Run an agent on a recording, and let it linger until the block ends; yields the box of its summary."""
    stop, begun, box = threading.Event(), threading.Event(), {}

    def work():
        box["summary"] = run_agent(
            settings, Source("replay", recording), stop=stop, linger_seconds=60.0, started=lambda _: begun.set()
        )

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert begun.wait(20.0)
        yield box
    finally:
        stop.set()
        thread.join(10.0)
    assert not thread.is_alive()


def wait_until(condition, seconds=15.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def uploads(place, name):
    with place.context.database.read() as connection:
        query = "SELECT process_key, seq, prior_generation FROM endpoint_baseline WHERE agent_id = ?"
        return connection.exec_driver_sql(query, (name,)).all()


def machine(admin, name):
    """Return the operating system that an agent has reported."""
    rows = admin.get("/endpoint/inventory", params={"q": name}).json()["rows"]
    return next((row["os_type"] for row in rows if row["agent_id"] == name), None)


def alert(number):
    return Alert(
        alert_id=f"alert-{number}", host_id="agent-a", observed_at_unix=time.time(), event_class="process_exec",
        process_key="mysql:bash", confidence="high", response="alert_only", reasons=("rule r1",),
        command_line="mysql -phunter2 --token=s3cr3t",
    )  # fmt: skip


def test_the_loop_of_the_manual_and_its_switch(place, recording, tmp_path):
    admin = place.person()
    fleet = [enrolled(place, tmp_path, name) for name in NAMES]
    buffer = AlertBuffer(fleet[0].state_path / "alerts.db")
    buffer.append([alert(number) for number in range(450)])
    buffer.close()
    with (
        structlog.testing.capture_logs() as logs,
        running(fleet[0], recording) as first,
        running(fleet[1], recording),
        running(fleet[2], recording),
    ):
        wait_until(lambda: all(len(uploads(place, name)) == 10 for name in NAMES))
        report = admin.post("/endpoint/baseline/aggregate", json={"min_agents": 3}).json()
        assert (report["aggregated"], report["agents"]) == (10, 3)
        generation = report["generation"]
        wait_until(lambda: {row[2] for name in NAMES for row in uploads(place, name)} == {generation})
        wait_until(lambda: {machine(admin, name) for name in NAMES} == {"linux"})
        command = {"agent_id": "agent-b", "reason": "a drill"}
        assert admin.post("/endpoint/nac/isolate", json=command).status_code in {200, 201, 202}
        wait_until(lambda: place.context.commands.status("agent-b")[0]["commands"][0]["status"] == "failed")
        events = admin.get("/endpoint/event", params={"agent_id": "agent-a", "limit": 200}).text
        assert "mysql" in events
        assert "hunter2" not in events
        assert "s3cr3t" not in events
        policy = {
            "policy_id": "mlops-killswitch", "policy_version": "v1",
            "policy_json": {"baseline_upload_enabled": False, "fleet_seed_enabled": False},
        }  # fmt: skip
        assert admin.post("/endpoint/policy", json=policy).status_code in {200, 201}
        began = time.monotonic()
        assigned = {"agent_id": "agent-a", "policy_id": "mlops-killswitch", "policy_version": "v1"}
        assert admin.post("/endpoint/policy/assign", json=assigned).status_code in {200, 201}
        wait_until(lambda: any(line["event"] == "updated baseline upload flag from policy" for line in logs))
        assert time.monotonic() - began < 5.0
    summary = first["summary"]
    assert summary["control"]["policy"]["policy_id"] == "mlops-killswitch"
    assert summary["control"]["policy"]["upload"]["decided_by"] == "policy"
    assert summary["buffer"]["waiting"] == 0
    assert summary["control"]["telemetry"]["accepted"] >= 450
    assert not [duty for duty in summary["control"]["duties"].values() if duty["last_error"]]
    for settings in fleet:
        state, _ = read_store(settings.baseline_folder)
        assert not state.table.dirty_since.any()
        assert state.table.seeds.generation == generation
    said = {line["event"] for line in logs}
    assert {"uploaded baseline profile batch", "applied fleet baseline seed profiles"} <= said


def test_enrolment_is_done_once_and_its_files_are_the_users_alone(place, tmp_path):
    settings = enrolled(place, tmp_path, "once")
    before = (settings.tls_folder / "agent.pem").read_bytes()
    enrolled(place, tmp_path, "once")  # neither a token nor a certificate is used up
    assert (settings.tls_folder / "agent.pem").read_bytes() == before
    assert {path.stat().st_mode & 0o777 for path in settings.tls_folder.iterdir()} == {0o600}
    assert settings.tls_folder.stat().st_mode & 0o777 == 0o700
    assert read_enrolment(settings.tls_folder).policy_keys
    with pytest.raises(ConfigError, match="enrolled as 'once'"):
        enrol(
            settings.tls_folder, "https://elsewhere.example:8443", place.authority_file, lambda: "x",
            agent_id="once", incarnation=lambda: "i",
        )  # fmt: skip


def test_a_name_that_is_taken_and_a_token_that_is_none_are_refused(place, tmp_path):
    enrolled(place, tmp_path / "one", "taken")
    with pytest.raises(ServerRefusalError) as caught:
        enrolled(place, tmp_path / "two", "taken")
    assert (caught.value.status, caught.value.reason) == (409, "already_enrolled")
    url = f"https://localhost:{place.running.agent_port}"
    with pytest.raises(ServerRefusalError) as caught:
        enrol(
            tmp_path / "tls", url, place.authority_file, lambda: "no-token", agent_id="n", incarnation=lambda: "i"
        )  # fmt: skip
    assert caught.value.status == 403
    assert not (tmp_path / "tls" / "agent.pem").exists()


def test_a_certificate_is_renewed_after_two_thirds_of_its_life_and_used_at_once(place, tmp_path):
    settings = enrolled(place, tmp_path, "renewing")
    files = TlsFiles.of(settings)
    old = read_certificate(files.certificate)

    class Later:
        def __init__(self, fraction):
            life = (old.not_valid_after_utc - old.not_valid_before_utc).total_seconds()
            self.at = old.not_valid_before_utc.timestamp() + fraction * life

        def now(self):
            return self.at

        def monotonic(self):
            return self.at

    client = ControlClient(read_enrolment(settings.tls_folder).server, files)
    try:
        Renewal(settings.tls_folder, client, files, Later(0.6)).look()
        assert read_certificate(files.certificate) == old
        Renewal(settings.tls_folder, client, files, Later(0.7)).look()
        renewed = read_certificate(files.certificate)
        assert renewed.serial_number != old.serial_number
        assert renewed.public_key() != old.public_key()  # a new key each time
        files.context()  # certificate and key belong together
        place.context.certificates.revoke(CONSOLE, serial=f"{old.serial_number:x}".zfill(2), reason="replaced")
        Renewal(settings.tls_folder, client, files, Later(0.7)).look()  # with the new one: the old one is revoked
    finally:
        client.close()


def test_a_revoked_certificate_is_refused_and_detection_goes_on(place, recording, tmp_path):
    settings = enrolled(place, tmp_path, "revoked")
    place.context.certificates.revoke(CONSOLE, agent_id="revoked", reason="stolen")
    with structlog.testing.capture_logs() as logs, running(settings, recording) as box:
        wait_until(lambda: any(line["event"] == "control duty failed" for line in logs))
        time.sleep(0.5)
    assert box["summary"]["events_total"] == 400
    assert not uploads(place, "revoked")
    failed = [line for line in logs if line["event"] == "control duty failed"]
    assert {line["kind"] for line in failed} == {"server_refusal"}


def test_an_enrolment_whose_server_is_somebody_else_keeps_nothing(place, authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "other-ca.pem")
    with pytest.raises(ServerUnavailableError) as caught:
        enrol(
            tmp_path / "tls", f"https://localhost:{place.running.agent_port}", tmp_path / "other-ca.pem",
            lambda: "secret", agent_id="n", incarnation=lambda: "i",
        )  # fmt: skip
    assert caught.value.context["reason"] == "tls"
    assert not (tmp_path / "tls").exists()


@pytest.mark.parametrize("name", ["front desk", "-dash", "büro/7", "web-7.example", "a" * 128], ids=list("abcde"))
def test_whatever_an_agent_is_called_it_enrols_and_speaks_under_that_name(place, tmp_path, name):
    settings = enrolled(place, tmp_path, name)
    enrolment = read_enrolment(settings.tls_folder)
    client = ControlClient(enrolment.server, TlsFiles.of(settings))
    beat = Heartbeat(agent_id=name, incarnation=f"life-{name}"[:64], agent_version="1", baseline_status="learning")
    try:
        assert client.post("/endpoint/heartbeat", beat, HeartbeatAnswer).status == "ok"
    finally:
        client.close()
    assert place.context.inventory.endpoint(name)["agent_id"] == name


def test_an_agent_with_a_certificate_from_the_operator_learns_the_policys_keys(recording, tmp_path):
    with server_place(tmp_path / "own") as place:
        certificate, key = place.issue("agent-hand", folder=tmp_path / "stick")
        given = {
            "server": f"https://localhost:{place.running.agent_port}",
            "tls_cert": certificate,
            "tls_key": key,
            "tls_ca": place.authority_file,
        }
        settings = settings_of(tmp_path, "agent-hand").model_copy(update=given)
        with structlog.testing.capture_logs() as logs, running(settings, recording):
            wait_until(lambda: len(uploads(place, "agent-hand")) == 10)
    said = [line["event"] for line in logs]
    assert said.count("applied policy") == 1
    assert "refused policy" not in said

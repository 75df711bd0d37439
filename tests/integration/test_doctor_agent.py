"""An agent at work with a real server, spoilt in a few ways, and what the doctor reads from what it wrote."""

import json
import threading
import time
from contextlib import contextmanager

import pytest
from attacks.agent_place import Place
from server_place import CONSOLE, server_place

from eguard.agent.control.enrol import enrol
from eguard.agent.service import Source, run_agent
from eguard.operations import Examination, run_checks
from eguard.settings import AgentSettings, ServerSettings

T0 = 1_700_000_000.0
WAY = ("server_name", "server_connect", "server_tls", "server_identity")
BUNDLES = ("bundle_signature", "bundle_expiry", "bundle_content")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    made = Place(tmp_path_factory.mktemp("bundles"))
    made.publish("one")
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory, bundles):
    folder = tmp_path_factory.mktemp("server")
    # No profile of an agent fits into an upload of 300 bytes.
    with server_place(folder, served_repository=bundles.directory, upload_max_bytes=300) as running:
        yield running


@pytest.fixture
def enrolled(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eguard.agent.runtime.STATUS_SECONDS", 0.1)

    def make(name):
        settings = AgentSettings(
            agent_id=name,
            state_path=tmp_path / name,
            heartbeat_seconds=0.2,
            policy_wait_seconds=1.0,
            baseline_upload_seconds=0.2,
            telemetry_seconds=0.2,
        )
        token = place.context.enrolment.tokens.create(CONSOLE).secret
        enrol(
            settings.tls_folder, f"https://localhost:{place.running.agent_port}", place.authority_file, lambda: token,
            agent_id=name, incarnation=lambda: f"life-{name}",
        )  # fmt: skip
        return settings

    return make


@contextmanager
def at_work(settings, folder):
    """Run an agent on a recording, and let it linger until the block ends."""
    path = folder / "events.jsonl"
    rows = [
        {"time_unix": T0 + 10 * turn, "event_class": "file_open" if turn % 2 else "dns_query", "host_id": "h",
         "comm": f"tool{turn % 3}", "parent_comm": "cron", "target": "/srv/x", "pid": 100 + turn % 3}
        for turn in range(60)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stop = threading.Event()
    thread = threading.Thread(
        target=run_agent, args=(settings, Source("replay", path)), kwargs={"stop": stop, "linger_seconds": 60.0}
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20.0)
    assert not thread.is_alive()


def doctor(settings, *names):
    nowhere = ServerSettings(server_state_path=settings.state_path / "none")
    return run_checks(Examination(settings, nowhere), names)[-1]


def told(settings, name, state, words):
    """Wait until a check, asked after the way to the server, says so; return its finding."""
    until = time.monotonic() + 20.0
    while True:
        found = doctor(settings, *WAY, name)
        if found.state == state and words in found.cause:
            return found
        assert time.monotonic() < until, found
        time.sleep(0.2)


def test_an_agent_at_work_is_well_and_what_the_server_takes_not_is_told(enrolled, tmp_path):
    settings = enrolled("at-work")
    with at_work(settings, tmp_path):
        told(settings, "heartbeat", "ok", "answered")
        told(settings, "control_plane", "ok", "all duties are done")
        told(settings, "policy", "ok", "the server has the same")
        found = told(settings, "baseline_upload", "warning", "too large (payload_too_large)")
        assert "EGUARD_UPLOAD_MAX_BYTES" in found.remedy
        assert "no agent runs here" not in found.cause
    told(settings, "heartbeat", "warning", "no agent runs here: the last one ended")
    told(settings, "baseline_upload", "warning", "no agent runs here: the last one ended")


def test_an_agent_that_is_revoked_while_it_works_says_so_in_its_own_status(enrolled, place, tmp_path):
    settings = enrolled("revoked-at-work")
    with at_work(settings, tmp_path):
        told(settings, "heartbeat", "ok", "answered")
        place.context.certificates.revoke(CONSOLE, agent_id="revoked-at-work", reason="stolen")
        for name in ("heartbeat", "control_plane"):
            found = told(settings, name, "failed", "is revoked")
            assert "eguard server agent decommission revoked-at-work" in found.remedy


def test_bundles_of_the_server_are_looked_at_as_the_agent_does(enrolled, bundles):
    settings = enrolled("bundled")
    for name in BUNDLES[:2]:
        found = doctor(settings, *WAY, *BUNDLES[: BUNDLES.index(name) + 1])
        assert found.state == "ok", found
    assert "/api/v1/bundles verify against" in doctor(settings, "bundle_signature").cause
    stamp = bundles.directory / "metadata" / "timestamp.json"
    kept = stamp.read_bytes()
    document = json.loads(kept)
    document["signed"]["version"] += 1
    stamp.write_text(json.dumps(document))
    try:
        found = doctor(settings, *WAY, "bundle_signature")
    finally:
        stamp.write_bytes(kept)
    assert found.state == "failed", found
    assert "sign" in found.cause

"""A server and agents of their own: a night's model in the shadow, a bad one halted at 1 %, a good one out and back."""

import hashlib
import json
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import sqlalchemy as sa
from attacks.agent_place import release
from promotion_scene import digest_of, id_of, leave_night, names
from server_place import CONSOLE, server_place

from eguard.agent.control.enrol import enrol
from eguard.agent.service import Source, run_agent
from eguard.bundle import Repository, generate_keys
from eguard.clock import SystemClock
from eguard.detection.content import load_content
from eguard.detection.features import contract_sha256
from eguard.detection.gate import CalibrationGroup, calibration_to_json
from eguard.detection.model import load_model
from eguard.fleet.tables import endpoint_agent
from eguard.settings import AgentSettings
from eguard.wire.canonical import canonical_json

T0 = 1_700_000_000.0
DAY = 86_400.0
INSIDER = names(1, inside=True)[0]
OUTSIDERS = names(2, inside=False)


class MovableClock(SystemClock):
    """The machine's clock, ahead by as much as a test says."""

    ahead = 0.0

    def now(self):
        return super().now() + self.ahead


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """A server that offers the release `one`, and three enrolled agents that it has known for a week."""
    monkeypatch.chdir(tmp_path)  # no repository of bundles here
    monkeypatch.setenv("EGUARD_ML_OUTPUT_ROOT", str(tmp_path / "nights"))
    with server_place(tmp_path / "place", clock=MovableClock()) as place:
        state = place.settings.server_state_path
        Repository(place.settings.repository, generate_keys(state / "keys")).publish(release("one"))
        agents = {name: enrolled(place, tmp_path, name) for name in (INSIDER, *OUTSIDERS)}
        with place.context.database.write() as connection:
            known = {"enrolled_at": time.time() - 7 * DAY, "heard_hours": 168}
            connection.execute(sa.update(endpoint_agent).values(known))
        yield place, agents


def enrolled(place, folder, name):
    settings = AgentSettings(
        agent_id=name,
        state_path=folder / name,
        heartbeat_seconds=0.2,
        policy_wait_seconds=5.0,
        telemetry_seconds=0.2,
        bundle_check_seconds=0.5,
        max_load_memory_bytes=96 << 20,
        bundle_repository="",
    )
    token = place.context.enrolment.tokens.create(CONSOLE).secret
    server = f"https://localhost:{place.running.agent_port}"
    life = f"life-{name}"
    enrol(settings.tls_folder, server, place.authority_file, lambda: token, agent_id=name, incarnation=lambda: life)
    return settings


@contextmanager
def running(agents, recording):
    """Run agents on a recording, and let them linger until the block ends."""
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=run_agent,
            args=(settings, Source("replay", recording)),
            kwargs={"stop": stop, "linger_seconds": 120.0},
            name=name,
        )
        for name, settings in agents.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(20.0)
    assert not any(thread.is_alive() for thread in threads)


def write_recording(path, events):
    """Write events on which a layer fires that alone alerts on nothing: the classifier decides."""
    rows = [
        {"time_unix": T0 + number, "event_class": "process_exec", "host_id": "h", "comm": f"tool{number}",
         "parent_comm": "cron", "command_line": f"tool{number} sekurlsa::x", "pid": 100 + number}
        for number in range(events)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def model_that_flags_everything(version):
    """Return a bundle whose classifier is sure of everything that it sees; it passes every check of its form."""
    honest = release(version)
    model = json.loads(honest["models/signature-ml-model.json"])
    model["parameters"]["intercept"] = 9.0
    return rebuilt(honest, model, scores=[number / 110.0 for number in range(99)])


def rebuilt(files, model, scores):
    """Return a bundle with another model and calibration, and a manifest to match."""
    calibration = calibration_to_json(
        {"pooled": CalibrationGroup(0.9, "calibrated", np.asarray(scores))},
        alpha=0.01,
        guarantee="marginal",
        model_digest=load_model(model).digest,
        contract_sha256=contract_sha256(),
    )
    changed = {
        **files,
        "models/signature-ml-model.json": canonical_json(model),
        "models/calibration.json": canonical_json(calibration),
    }
    counts = load_content(changed).counts
    manifest = json.loads(files["models/manifest.json"])
    for name in manifest["files"]:
        digest = hashlib.sha256(changed[name]).hexdigest()
        manifest["files"][name] = {
            "sha256": digest, "length_bytes": len(changed[name]), "records": counts[name]
        }  # fmt: skip
    return {**changed, "models/manifest.json": canonical_json(manifest)}


def wait_until(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def versions(admin):
    return {row["agent_id"]: row["bundle_version"] for row in admin.get("/endpoint/inventory").json()["rows"]}


def show(admin, files):
    return admin.get(f"/endpoint/ml-ops/candidates/{id_of(files)}").json()


def promote(admin, files, **given):
    return admin.post("/endpoint/ml-ops/promote", json={"candidate_id": id_of(files), **given})


def is_halted(place, admin, files):
    place.context.canary_watch.look()  # the server's own task may be faster
    return show(admin, files)["stage"] == "halted"


def audited(admin, action):
    return admin.get("/endpoint/audit", params={"action": action}).json()["records"]


@pytest.mark.slow
def test_a_bad_model_is_seen_in_the_shadow_halted_at_one_percent_and_gone_from_its_agent(fleet, tmp_path):
    place, agents = fleet
    admin = place.person()
    recording = write_recording(tmp_path / "events.jsonl", 60)
    bad = model_that_flags_everything("two")
    leave_night(tmp_path, "20261123T020000Z-aaaa", bad)
    assert place.context.canary_watch.look()["registered"] == id_of(bad)
    assert promote(admin, bad).json()["stage"] == "shadow"

    with running(agents, recording):
        wait_until(lambda: set(versions(admin).values()) == {"one"})
        wait_until(lambda: show(admin, bad)["shadow"]["agents"] == 3)
    assert not admin.get("/endpoint/event").json()["incidents"]  # a shadow alerts on nothing

    # Agents without a copy of a bundle take the one that is meant for them before their first event.
    forget_bundles(agents)
    with running(agents, recording):
        wait_until(lambda: show(admin, bad)["shadow"]["scored"] >= 60)
    shadow = show(admin, bad)["shadow"]
    assert shadow["active_flagged"] == 0
    assert shadow["shadow_flagged"] > 0
    refused = promote(admin, bad).json()
    assert refused["code"] == "promotion_refused"
    assert {"dwell"} <= {each["field"] for each in refused["errors"]}
    assert promote(admin, bad, to_percent=1, force=True, reason="whatever the shadow says").json()["percent"] == 1.0

    forget_bundles(agents)
    with running(agents, recording):
        wait_until(lambda: versions(admin) == {INSIDER: "two", **dict.fromkeys(OUTSIDERS, "one")})
        wait_until(lambda: show(admin, bad)["alerts"]["since"] >= 60)
        assert {each["agent_id"] for each in admin.get("/endpoint/event").json()["incidents"]} == {INSIDER}
        place.clock.ahead += 61.0  # the first look
        wait_until(lambda: is_halted(place, admin, bad))
        wait_until(lambda: versions(admin)[INSIDER] == "one")
    found = show(admin, bad)
    assert (found["stage"], found["percent"], found["running"]) == ("halted", 0.0, 0)
    assert "more than 2 times the rate of before" in found["reason"]
    (halt,) = audited(admin, "candidate.halt")
    assert (halt["principal"], halt["detail"]["from_percent"]) == ("system", 1.0)
    assert len(audited(admin, "candidate.promote")) == 2


def forget_bundles(agents):
    import shutil

    for settings in agents.values():
        shutil.rmtree(settings.state_path / "bundle", ignore_errors=True)


@pytest.mark.slow
def test_a_bundle_that_kills_loaders_is_halted_and_a_good_one_goes_out_and_comes_back(fleet, tmp_path):
    place, agents = fleet
    admin = place.person()
    recording = write_recording(tmp_path / "events.jsonl", 1)
    honest = release("huge")
    huge = rebuilt(honest, json.loads(honest["models/signature-ml-model.json"]), scores=[0.5] * 4_000_000)
    good = release("three")
    for run_id, files in (("20261123T020000Z-bbbb", huge), ("20261124T020000Z-cccc", good)):
        leave_night(tmp_path, run_id, files)
        assert place.context.canary_watch.look()["stage"] == "registered"
    with running({INSIDER: agents[INSIDER]}, recording):
        wait_until(lambda: versions(admin)[INSIDER] == "one")
        promote(admin, huge, to_percent=1, force=True, reason="a test fleet")
        wait_until(lambda: is_halted(place, admin, huge))
        assert show(admin, huge)["reason"].endswith(f"could not load it: {INSIDER} (bundle_load)")
        assert versions(admin)[INSIDER] == "one"  # it never ran, and detection went on

        promoted = promote(admin, good, to_percent=100, force=True, reason="a test fleet").json()
        wait_until(lambda: versions(admin)[INSIDER] == "three")
        assert show(admin, good)["running"] == 1
        back = admin.post("/endpoint/ml-ops/rollback", json={"reason": "drill"}).json()
        assert back["versions"]["nightly"] == promoted["versions"]["nightly"] + 1
        wait_until(lambda: versions(admin)[INSIDER] == "one")
    row = admin.get("/endpoint/inventory", params={"q": INSIDER}).json()["rows"][0]
    assert (row["bundle_digest"], row["bundle_state"]) == (digest_of(release("one")), "current")

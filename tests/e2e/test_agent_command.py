"""`eguard agent` as an operator runs it: live events, alerts with reasons, kills, restarts, new bundles, bad input."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from eguard.bundle import MANIFEST_NAME, PROVENANCE_NAME, Manifest, Repository, describe_file, generate_keys
from eguard.detection.content import load_content
from eguard.detection.features import N_FEATURES, contract, contract_sha256
from eguard.detection.fleet_context import FleetContext
from eguard.detection.gate import CalibrationGroup, calibration_to_json
from eguard.detection.model import load_model
from eguard.wire.canonical import canonical_json

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("agent")]
ROOT = Path(__file__).parents[2]
EGUARD = [sys.executable, "-c", "from eguard.cli.app import main; main()"]
SELECTOR = {"product": "linux", "category": "process_creation", "service": "", "event_codes": []}
RECORDING = ROOT / "data/raw/net-c2-sessions/caldera_manx_tcp.messages.csv"
#: Whoever may not use eBPF watches processes with less.
SENSOR = "auto" if os.geteuid() == 0 else "psutil"


def release(version, program):
    """Return a small whole bundle whose only rule is about `program`."""
    rule = {"id": f"rule-{version}", "title": f"{program} was run", "level": "high", "status": "test", "author": "a"}
    rule |= {"path": "r.yml", "licence": "DRL-1.1", "tags": ["attack.discovery", "attack.t1033"], "selector": SELECTOR}
    rule |= {"predicate": ["endswith", "Image", [f"/{program}"]]}
    model = {
        "format": 1,
        "kind": "logistic",
        "version": version,
        "contract_sha256": contract_sha256(),
        "n_features": N_FEATURES,
        "threshold": 0.5,
        "platt": {"slope": 1.0, "intercept": 0.0},
        "tables": {"class_risk": [0.0] * 8, "rule_precision": {}, "rule_precision_default": 0.0},
        "parameters": {
            "coefficients": [0.0] * N_FEATURES,
            "center": [0.0] * N_FEATURES,
            "scale": [1.0] * N_FEATURES,
            "intercept": -4.0,
        },
    }
    calibration = calibration_to_json(
        {"pooled": CalibrationGroup(0.9, "calibrated", np.linspace(0.0, 0.9, 99))},
        alpha=0.01,
        guarantee="marginal",
        model_digest=load_model(model).digest,
        contract_sha256=contract_sha256(),
    )
    documents = {
        "rules.json": {"format": 1, "rules": [rule], "prefilter": {}},
        "indicators.json": {"format": 1, "indicators": []},
        "feature-schema.json": contract(),
        "models/fleet-context.json": FleetContext().to_json(),
        "models/signature-ml-model.json": model,
        "models/calibration.json": calibration,
    }
    files = {name: canonical_json(document) for name, document in documents.items()}
    counts = load_content(files).counts
    manifest = Manifest(
        format=1,
        model_version=version,
        feature_contract_sha256=contract_sha256(),
        promoted=True,
        files={name: describe_file(data, counts[name]) for name, data in files.items()},
    )
    return {**files, MANIFEST_NAME: manifest.to_bytes(), PROVENANCE_NAME: b'{"_type":"statement"}'}


def run(*arguments, **environment):
    command = [*EGUARD, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


class RunningAgent:
    """An agent in a process of its own, its standard output and its log in files."""

    def __init__(self, folder, *arguments, **environment):
        self.out, self.log = folder / "out.jsonl", folder / "log.jsonl"
        self.state = folder / "state"
        with self.out.open("ab") as out, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*EGUARD, "agent", "run", "--json", "--state", str(self.state), *map(str, arguments)],
                cwd=ROOT,
                stdout=out,
                stderr=log,
                env={**os.environ, **environment},
            )

    def lines(self):
        complete = self.out.read_text("utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in complete if line.endswith("\n")]

    def new_alerts(self, known):
        return [line for line in self.lines() if "alert_id" in line and line["alert_id"] not in known]

    def events(self):
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines() if line.startswith("{")]

    def wait_for(self, what, seconds=30.0):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = what()
            if found:
                return found
            assert self.process.poll() is None, self.log.read_text("utf-8")
            time.sleep(0.1)
        raise AssertionError(f"waited in vain; the log says:\n{self.log.read_text('utf-8')[-3000:]}")

    def wait_running(self):
        return self.wait_for(lambda: (self.state / "status.json").exists() and self.status()["pid"] == self.process.pid)

    def status(self):
        return json.loads((self.state / "status.json").read_text("utf-8"))

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def agent(tmp_path):
    started = []

    def start(*arguments, **environment):
        # Without one of its own, it would take whatever bundle lies in the working tree.
        environment.setdefault("EGUARD_BUNDLE_REPOSITORY", str(tmp_path / "repository"))
        started.append(RunningAgent(tmp_path, *arguments, **environment))
        return started[-1]

    yield start
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            each.process.kill()
        each.process.wait()


@pytest.fixture
def program(tmp_path):
    """Make programs that nobody else on this machine runs; the agent sees whatever other tests do."""

    def make(name):
        path = tmp_path / f"{name}-{os.getpid()}"
        shutil.copy2(shutil.which("true"), path)
        return path

    return make


@pytest.fixture
def repository(tmp_path, program):
    repository = Repository(tmp_path / "repository", generate_keys(tmp_path / "keys"))
    repository.publish(release("one", program("one").name))
    return repository


def learned_events(state):
    answer = run("store", "dump", state / "baseline", "--json")
    assert answer.returncode == 0, answer.stderr
    return sum(sum(profile["counts"]) for profile in json.loads(answer.stdout)["profiles"])


def storm(seconds):
    """Run short programs, so that windows of their process keys close."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        subprocess.run(["/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true; done"], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to watch executions")
@pytest.mark.usefixtures("repository")
def test_a_live_agent_alerts_is_killed_again_and_again_and_loses_no_alert_and_no_baseline(agent, program):
    known, sums = set(), [0]
    for turn in range(2):
        watching = agent("--source", SENSOR)
        watching.wait_running()
        subprocess.run([program("one")], check=True)
        alerts = watching.wait_for(partial(watching.new_alerts, known))
        assert {alert["rules"][0]["rule_id"] for alert in alerts} == {"rule-one"}
        assert alerts[0]["reasons"] == ["rule"]
        assert alerts[0]["confidence"] == "high"
        assert alerts[0]["ancestors"]
        storm(1.5)
        assert watching.end(signal.SIGKILL) == -signal.SIGKILL
        known |= {alert["alert_id"] for alert in watching.new_alerts(set())}
        verified = run("store", "verify", watching.state / "baseline", "--json")
        assert (verified.returncode, json.loads(verified.stdout)["is_sound"]) == (0, True)
        sums.append(learned_events(watching.state))
        assert sums[-1] > sums[-2], f"nothing was learned in life {turn}"
    kept = json.loads(
        run("alerts", "list", "--json", "--limit", "100000", EGUARD_STATE_PATH=str(watching.state)).stdout
    )
    assert known <= {alert["alert_id"] for alert in kept["alerts"]}
    status = run("agent", "status", "--state", watching.state, "--json")
    assert status.returncode == 0  # it was killed just now and could not say so
    assert json.loads(status.stdout)["pid"] == watching.process.pid


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to watch executions")
def test_a_new_bundle_is_taken_without_a_restart_and_what_was_learned_stays(agent, repository, program):
    watching = agent("--source", SENSOR, EGUARD_BUNDLE_CHECK_SECONDS="1")
    watching.wait_running()
    storm(1.5)
    before = watching.wait_for(lambda: watching.status()["baseline"]["learned_events"], seconds=25)
    repository.publish(release("two", program("two").name))
    watching.wait_for(
        lambda: [e for e in watching.events() if e["event"] == "loaded bundle" and e["model_version"] == "two"]
    )
    subprocess.run([program("one")], check=True)
    subprocess.run([program("two")], check=True)
    alerts = watching.wait_for(partial(watching.new_alerts, set()))
    assert {alert["rules"][0]["rule_id"] for alert in alerts} == {"rule-two"}
    assert {alert["model_version"] for alert in alerts} == {"two"}
    assert watching.end(signal.SIGTERM) == 0
    summary = watching.lines()[-1]["summary"]
    assert summary["bundle"]["loaded_total"] == 2
    assert summary["baseline"]["learned_events"] >= before
    assert learned_events(watching.state) == summary["baseline"]["learned_events"]
    assert run("agent", "status", "--state", watching.state).returncode == 1  # it has stopped


def test_a_recording_runs_to_its_end_and_a_second_run_goes_on_from_there(tmp_path):
    state = tmp_path / "state"
    arguments = ("agent", "run", "--source", "replay", "--file", RECORDING, "--state", state, "--json")
    answer = run(*arguments, EGUARD_BUNDLE_REPOSITORY=str(tmp_path / "none"))
    assert answer.returncode == 0, answer.stderr
    summary = json.loads(answer.stdout.splitlines()[-1])["summary"]
    assert summary["events_total"] > 0
    assert summary["state"] == "stopped"
    first = learned_events(state)
    assert first == summary["baseline"]["learned_events"] > 0
    assert run(*arguments, EGUARD_BUNDLE_REPOSITORY=str(tmp_path / "none")).returncode == 0
    assert learned_events(state) == 2 * first


def test_a_torn_recording_is_said_and_what_comes_before_the_damage_is_kept(tmp_path):
    whole = RECORDING.parents[1] / "endpoint-events" / "events.csv.gz"
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(whole.read_bytes()[:400_000])
    state = tmp_path / "state"
    answer = run("agent", "run", "--file", torn, "--state", state, "--json")
    assert answer.returncode == 2
    assert "remedy:" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert run("store", "verify", state / "baseline").returncode == 0
    assert learned_events(state) > 0


def test_two_agents_do_not_share_a_folder(agent, tmp_path):
    first = agent("--source", "psutil")
    first.wait_running()
    second = run("agent", "run", "--source", "psutil", "--duration", "1", "--state", first.state)
    assert second.returncode == 2
    assert "another process has the store" in second.stderr
    assert first.end(signal.SIGINT) == 0


def test_what_cannot_work_is_refused_with_its_cause_and_remedy(tmp_path):
    for arguments, code, words in (
        (("--source", "radar"), 2, "psutil"),
        (("--file", tmp_path / "none.csv"), 3, "no file"),
        (("--config", tmp_path / "none.toml"), 2, "none.toml"),
        (("--state", "/dev/null/eguard"), 2, "EGUARD_STATE_PATH"),
    ):
        answer = run(
            "agent",
            "run",
            "--duration",
            "1",
            *(("--state", tmp_path) if "--state" not in arguments else ()),
            *arguments,
        )
        assert answer.returncode == code, (arguments, answer.stderr)
        assert words in answer.stderr
        assert "remedy:" in answer.stderr
        assert "Traceback" not in answer.stderr
    wrong = run("agent", "run", "--duration", "1", EGUARD_LEARNING_SECONDS="soon")
    assert (wrong.returncode, "EGUARD_LEARNING_SECONDS" in wrong.stderr) == (2, True)


def test_a_stopped_agents_baseline_can_be_moved_by_hand(tmp_path):
    state = tmp_path / "state"
    run("agent", "run", "--file", RECORDING, "--state", state, EGUARD_BUNDLE_REPOSITORY=str(tmp_path / "none"))
    moved = run("agent", "mode", "force_active", "--state", state, "--json")
    assert json.loads(moved.stdout)["status"] == "active"
    assert run("agent", "mode", "skip_learning", "--state", state).returncode == 2
    assert json.loads(run("agent", "mode", "learning", "--state", state, "--json").stdout)["status"] == "learning"
    assert learned_events(state) == 0
    assert (state / "baseline-archive.jsonl").read_bytes().count(b"\n") > 0

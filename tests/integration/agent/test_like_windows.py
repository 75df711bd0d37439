"""The whole agent, as a command and as a service, on a system like Windows (see tests/integration/windows_like).

Every process of it is changed so, the one that tries a bundle out included. Afterwards this machine's own reader finds
the same store.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eguard.baseline.store_dump import read_store
from eguard.wire.canonical import canonical_json

TESTS = Path(__file__).parents[2]
WINDOWS_LIKE = TESTS / "integration" / "windows_like"
COMMAND = "from eguard.cli.app import main; main()"
SERVICE = """
import json, os, pathlib, threading, time
from eguard.baseline import BaselineStore
from eguard.baseline.archive import BaselineArchive
from eguard.baseline.exercise import EXERCISE_CAPACITY, exercise
from eguard.agent.service_control import ServiceControl, ServiceController
from eguard.agent.windows_service import run_from_settings
from eguard.logs import configure_logging

configure_logging(json_lines=True)
status = pathlib.Path(os.environ["EGUARD_STATE_PATH"], "status.json")
told = []
controller = ServiceController(run_from_settings, lambda each: told.append(each.state.name))

def stop_once_it_runs():
    while json.loads(status.read_bytes())["pid"] != os.getpid():
        time.sleep(0.05)
    time.sleep(0.6)
    controller.control(ServiceControl.STOP)

threading.Thread(target=stop_once_it_runs, daemon=True).start()
reason = controller.serve()
# Enough bytes that line ends are among them.
with BaselineStore.open(status.parent / "exercised", EXERCISE_CAPACITY) as store:
    exercise(store, 60, 0)
BaselineArchive(status.parent / "archive").keep({("sh", "cron"): range(8)}, reason="drift", now=1.0)
print(json.dumps({"reason": reason.name, "told": sorted(set(told), key=told.index)}))
"""
RULE = {"id": "probe", "title": "the probe was run", "level": "high", "status": "test", "author": "a", "path": "r.yml"}
RULE |= {"licence": "DRL-1.1", "tags": ["attack.discovery"], "predicate": ["endswith", "Image", ["/eguard-☃"]]}
RULE |= {"selector": {"product": "linux", "category": "process_creation", "service": "", "event_codes": []}}


class Place:
    """A folder with a repository of one rule, a program that the rule is about, and an agent's state."""

    def __init__(self, folder):
        self.state = folder / "state"
        self.program = folder / "eguard-☃"
        shutil.copy(shutil.which("sleep"), self.program)
        spec = importlib.util.spec_from_file_location("eguard_agent_place", TESTS / "attacks" / "agent_place.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # its dataclass looks there for its own module
        spec.loader.exec_module(module)
        rules = canonical_json({"format": 1, "rules": [RULE], "prefilter": {"sekurlsa::": 2}})
        module.Place(folder).publish("one", rules=rules)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("EGUARD_")}
        self.environment |= {
            "PYTHONPATH": str(WINDOWS_LIKE),
            "PYTHONIOENCODING": "cp1252",  # what Windows writes to files and pipes
            "EGUARD_AGENT_ID": "lab",
            "EGUARD_SENSOR": "psutil",
            "EGUARD_STATE_PATH": str(self.state),
            "EGUARD_BUNDLE_REPOSITORY": (folder / "repository").as_uri(),
            "EGUARD_BUNDLE_ROOT": str(folder / "repository" / "metadata" / "1.root.json"),
            "EGUARD_SETTLE_SECONDS": "1",
        }

    def start(self, program, *arguments, **environment):
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=self.state.parent,  # away from the working tree's own bundles
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def run(self, program, *arguments, **environment):
        done = self.start(program, *arguments, **environment)
        out, log = done.communicate(timeout=60)
        return done.returncode, out, log

    def wait_running(self, agent):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            path = self.state / "status.json"
            if path.exists() and json.loads(path.read_bytes())["pid"] == agent.pid:
                return
            assert agent.poll() is None, agent.stderr.read()
            time.sleep(0.05)
        raise AssertionError("the agent did not come up in a minute")


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_the_agent_learns_alerts_stops_and_goes_on(place):
    agent = place.start(COMMAND, "agent", "run", "--json")
    place.wait_running(agent)
    # What the rule is about is held back; the other one is learned.
    with subprocess.Popen([place.program, "1.5"]), subprocess.Popen(["sleep", "1.5"]):
        time.sleep(1.0)
        assert read_store(place.state / "baseline")[1]["is_sound"]
    agent.send_signal(signal.SIGTERM)
    out, log = agent.communicate(timeout=30)
    assert agent.returncode == 0, log
    *alerts, last = [json.loads(line) for line in out.splitlines()]
    summary = last["summary"]
    about = [alert for alert in alerts if [rule["title"] for rule in alert["rules"]] == ["the probe was run"]]
    assert [alert["process_key"].partition(":")[0] for alert in about] == ["eguard-☃"]
    assert (summary["sensor"]["name"], summary["state"], summary["alerts_not_kept"]) == ("psutil", "stopped", 0)
    assert summary["buffer"]["waiting"] == len(alerts)
    assert summary["bundle"]["repository"]["state"] == "current"
    assert summary["baseline"]["learned_events"] > 0
    assert summary["rss_bytes"] > 10_000_000
    assert (summary["duties_failed"], summary["baseline"]["failures_total"]) == ({}, 0)
    assert '"level": "error"' not in log

    # As a service, on the same state, with the bundle that it kept.
    code, out, log = place.run(SERVICE)
    assert (code, '"level": "error"' in log) == (0, False), log
    answer = json.loads(out)
    assert answer == {"reason": "ASKED", "told": ["START_PENDING", "RUNNING", "STOP_PENDING", "STOPPED"]}

    code, out, log = place.run(COMMAND, "store", "verify", str(place.state / "baseline"), "--json")
    assert code == 0, log
    report = json.loads(out)
    found, here = read_store(place.state / "baseline")
    assert report == here
    assert (here["is_sound"], here["problems"], here["incarnation"]) == (True, [], summary["baseline"]["incarnation"])
    assert here["generation"] == summary["baseline"]["generation"] + 1
    exercised, report = read_store(place.state / "exercised")
    assert (report["is_sound"], exercised.operation) == (True, 60)
    assert any(b"\n" in path.read_bytes() for path in (place.state / "exercised").glob("baselines.bin*"))
    assert b"\r" not in (place.state / "archive").read_bytes()
    assert found.table.sample_count.sum() >= summary["baseline"]["learned_events"]


def test_shards_are_refused(place):
    code, _, log = place.run(COMMAND, "agent", "run", EGUARD_DETECTION_SHARDS="2", EGUARD_BUNDLE_REPOSITORY="")
    assert (code, "this system allows one" in log, "EGUARD_DETECTION_SHARDS=1" in log) == (2, True, True), log

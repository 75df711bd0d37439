"""An agent that is killed between sending and remembering sends again, and nothing is lost or counted twice."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from eguard.agent.buffer import AlertBuffer
from eguard.detection.alert import Alert

BATCH, TELEMETRY = "/endpoint/baseline/batch", "/endpoint/telemetry"
T0 = 1_700_000_000.0


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "events.jsonl"
    rows = [
        {"time_unix": T0 + n, "event_class": "file_open", "host_id": "h", "comm": f"tool{n % 150}",
         "parent_comm": "cron", "target": "/srv/x"}
        for n in range(1500)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def start(enrolled, recording, tmp_path):
    """Run the shipped command on the recording."""
    running = []

    def begin():
        environment = os.environ | {
            "EGUARD_STATE_PATH": str(enrolled.state_path),
            "EGUARD_HEARTBEAT_SECONDS": "0.3",
            "EGUARD_BASELINE_UPLOAD_SECONDS": "0.5",
            "EGUARD_TELEMETRY_SECONDS": "0.3",
        }
        command = [
            sys.executable, "-c", "from eguard.cli.app import main; main()",
            "agent", "run", "--file", str(recording), "--linger", "60",
        ]  # fmt: skip
        running.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def test_killed_after_the_server_took_it_and_before_the_agent_knew(control_server, enrolled, start):
    buffer = AlertBuffer(enrolled.state_path / "alerts.db")
    buffer.append([
        Alert(alert_id=f"a{n}", host_id="h", observed_at_unix=T0, event_class="file_open", process_key="a:b",
              confidence="high", response="alert_only", reasons=("r",))
        for n in range(300)
    ])  # fmt: skip
    buffer.close()
    running, answers = [], {BATCH: [], TELEMETRY: []}

    def take_and_kill_once(path, good):
        def answer(request):
            answers[path].append(good(request))
            if len(answers[path]) == 1:
                running[-1].send_signal(signal.SIGKILL)
                running[-1].wait()
            return answers[path][-1]

        return answer

    for path in (BATCH, TELEMETRY):
        control_server.answers[path] = take_and_kill_once(path, control_server.answers[path])
    for _ in range(2):  # once by each of the two
        running.append(start())
        assert running[-1].wait(60) == -signal.SIGKILL
    running.append(start())
    until = time.monotonic() + 60.0
    while len(control_server.rows) < 150 or len(control_server.alerts) < 300:
        assert time.monotonic() < until
        time.sleep(0.05)
    first, second = ({row["process_key"]: row["seq"] for row in sent.json["baselines"]}
                     for sent in control_server.seen[BATCH][:2])  # fmt: skip
    assert first.keys() == second.keys()  # still dirty, still the oldest
    assert all(second[key] >= seq for key, seq in first.items())
    assert answers[TELEMETRY][1].duplicate == 200
    assert sum(answer.accepted for answer in answers[TELEMETRY]) == 300

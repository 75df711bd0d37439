"""Drills on a running server and an agent that watches this machine, and the evidence that comes of it."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from eguard.evidence.readiness import RecordFolder, judge_readiness
from eguard.evidence.signing import Custody
from eguard.simulate.programs import Service, eguard_command, environment, run_command

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Settings of an operator, for a server and one agent that are programs of their own."""
    folder = tmp_path_factory.mktemp("fleet")
    server = {
        "EGUARD_SERVER_STATE_PATH": str(folder / "server"),
        "EGUARD_AGENT_LISTEN": "127.0.0.1:0",
        "EGUARD_ADMIN_LISTEN": "127.0.0.1:0",
    }
    run_command(["server", "pki", "init", "--name", "127.0.0.1", "--json"], server)
    serving = Service("the server", ["server", "run"], server, folder / "server.log")
    running = [serving]
    try:
        said = serving.wait_for("server is listening")
        token, entry = folder / "operator.token", folder / "enrolment.token"
        authority = folder / "server" / "pki" / "ca.pem"
        run_command(["server", "token", "access", "create", "op", "--role", "admin", "--out", str(token)], server)
        run_command(["server", "token", "create", "--out", str(entry)], server)
        agent = {
            "EGUARD_AGENT_ID": "web-1",
            "EGUARD_STATE_PATH": str(folder / "web-1"),
            "EGUARD_SERVER": f"https://127.0.0.1:{said['agent_port']}",
            "EGUARD_SENSOR": "psutil",
            "EGUARD_HEARTBEAT_SECONDS": "1",
        }
        run_command(["agent", "enroll", "--ca", str(authority), "--token-file", str(entry)], agent)
        running.append(Service("the agent", ["agent", "run"], agent, folder / "web-1.log"))
        running[-1].wait_for("applied policy")
        yield {
            **server,
            "EGUARD_API": f"https://127.0.0.1:{said['admin_port']}",
            "EGUARD_API_TOKEN_FILE": str(token),
            "EGUARD_TLS_CA": str(authority),
            "EGUARD_EVIDENCE_PATH": str(folder / "evidence"),
            "FLEET_FOLDER": str(folder),
        }
    finally:
        for service in reversed(running):
            service.stop()


def eguard(fleet, *arguments):
    """Run a command as the operator does; return its exit code and its JSON."""
    done = subprocess.run(
        [eguard_command(), *arguments, "--json"],
        env=environment(fleet),
        cwd=fleet["FLEET_FOLDER"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def counting(fleet):
    found = judge_readiness(RecordFolder(Custody(Path(fleet["EGUARD_EVIDENCE_PATH"]))), time.time())
    return {drill.drill for box in found.boxes for drill in box.drills if drill.counts}


def test_drills_on_a_real_agent_tick_their_boxes_and_lie_in_a_pack_that_verifies(fleet):
    code, loop = eguard(fleet, "readiness", "drill", "loop", "--wait", "0")
    # The agent has only begun: every question is answered, and the answer is no.
    assert (code, loop["passed"], loop["error"]) == (1, False, "")
    assert [each["exit_code"] for each in loop["commands"]] == [0, 0]
    code, switch = eguard(fleet, "readiness", "drill", "kill-switch", "--agent", "web-1")
    assert (code, switch["passed"], switch["error"]) == (0, True, ""), switch["checks"]
    assert [each["command"].split()[2] for each in switch["commands"]] == [
        *("show", "create", "assign", "kill", "show", "resume", "withdraw")
    ]
    code, back = eguard(fleet, "readiness", "drill", "rollback")
    assert (code, back["passed"], back["error"]) == (0, True, ""), back["checks"]
    code, gate = eguard(fleet, "readiness", "--html", "readiness.html")
    assert (code, gate["ready"]) == (1, False)
    assert [drill["drill"] for box in gate["boxes"] for drill in box["drills"] if drill["counts"]] == [
        *("kill-switch", "rollback")
    ]
    folder = Path(fleet["FLEET_FOLDER"])
    assert "NOT READY" in (folder / "readiness.html").read_text()

    code, pack = eguard(fleet, "evidence", "collect", "--out", "pack", "--journal-since", "", "--log", "server.log")
    assert code == 0
    assert {pack["sections"][name]["state"] for name in ("api", "sql", "policy", "logs", "drills")} == {"present"}
    assert eguard(fleet, "evidence", "verify", "pack")[0] == 0
    secret = (folder / "operator.token").read_bytes().strip()
    assert [path for path in (folder / "pack").rglob("*") if path.is_file() and secret in path.read_bytes()] == []

    assert counting(fleet) == {"kill-switch", "rollback"}
    Path(switch["record"]).unlink()
    assert counting(fleet) == {"rollback"}
    altered = Path(back["record"])
    altered.write_bytes(altered.read_bytes().replace(b"A", b"B", 1))
    assert counting(fleet) == set()

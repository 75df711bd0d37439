"""`eguard nac` as an operator runs it, inside the agent's namespace."""

import json
import os
import shutil
import socket
import struct
import sys
import threading
from pathlib import Path

import pytest

pytestmark = [pytest.mark.xdist_group("isolation"), pytest.mark.e2e]
ROOT = Path(__file__).parents[3]
SERVERS = ["--server", "10.77.1.2:8443", "--server", "[fd77:1::2]:8443"]
EGUARD = [sys.executable, "-c", "from eguard.cli.app import main; main()", "nac"]


@pytest.fixture
def nac(agent, tmp_path):
    def call(*arguments, prefix=()):
        state = [] if arguments[0] == "--help" else ["--state", str(tmp_path / "nac")]
        return agent.run(*prefix, *EGUARD, *arguments, *state, check=False, cwd=ROOT)

    return call


def test_a_day_of_isolation(network, agent, nac):
    assert nac("status").returncode == 0
    done = nac("isolate", *SERVERS, "--by", "alice", "--json")
    assert (done.returncode, json.loads(done.stdout)["action"]) == (0, "isolated")
    assert agent.reaches("10.77.1.2", 8443, wait=2.0)
    assert not agent.reaches("10.77.2.2", 8443)
    shown = nac("status")
    assert shown.returncode == 0
    assert "isolated" in shown.stdout
    assert "10.77.1.2:8443, [fd77:1::2]:8443" in shown.stdout
    assert "alice" in shown.stdout
    agent.run("nft", "flush", "ruleset")
    lost = nac("status", "--json")
    assert (lost.returncode, json.loads(lost.stdout)["state"]) == (1, "not_isolated")
    assert json.loads(nac("restore", "--json").stdout)["state"] == "isolated"
    agent.nft("flush chain inet eguard_isolation forward\n")
    partial = nac("status", "--json")
    assert (partial.returncode, json.loads(partial.stdout)["state"]) == (1, "partial")
    assert json.loads(nac("allow", "--json").stdout)["action"] == "allowed"
    assert agent.ruleset() == ""
    assert agent.reaches("10.77.2.2", 8443, wait=2.0)


def test_dry_run_prints_what_nft_accepts_and_changes_nothing(agent, nac, tmp_path):
    rules = nac("isolate", *SERVERS, "--dry-run").stdout
    agent.run("nft", "-c", "-f", "-", input=rules)
    assert "elements = { 10.77.1.2 . 8443 }" in rules
    assert agent.ruleset() == ""
    assert not (tmp_path / "nac").exists()


@pytest.mark.parametrize(
    ("server", "status", "said"),
    [
        ("10.77.2.2:443 }; flush ruleset; #:1", 2, "is refused"),
        ('a";\nflush ruleset\n#:1', 2, "is refused"),
        ("no-such-name.invalid:443", 2, "does not resolve"),
    ],
    ids=["injection", "newline", "unknown-name"],
)
def test_bad_server_changes_nothing(agent, nac, tmp_path, server, status, said):
    answer = nac("isolate", "--server", server)
    assert answer.returncode == status
    assert said in answer.stderr
    assert "remedy:" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert agent.ruleset() == ""
    assert list((tmp_path / "nac").glob("*")) == []


def test_no_privileges_are_exit_3_with_a_remedy(nac):
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    capable = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    for command in (["status"], ["isolate", *SERVERS]):
        answer = nac(*command, prefix=capable)
        assert answer.returncode == 3
        assert "root" in answer.stderr
        assert answer.stderr.count("remedy:") == 1


def test_net_admin_is_all_it_takes(nac):
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    answer = nac("isolate", *SERVERS, "--json", prefix=["setpriv", "--bounding-set=-all,+net_admin", "--no-new-privs"])
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["state"] == "isolated"


def answer_names(resolver, address):
    """Answer A questions with one address and all others with nothing, until an empty one comes."""
    while True:
        query, sender = resolver.recvfrom(1000)
        if not query:
            return
        end = query.index(b"\0", 12) + 5
        is_a = query[end - 4 : end - 2] == b"\0\1"
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(address()) if is_a else b""
        head = query[:2] + struct.pack(">5H", 0x8180, 1, int(is_a), 0, 0)
        resolver.sendto(head + query[12:end] + record, sender)


def test_name_is_found_again_while_isolated(network, agent, nac):
    """The system's own resolver asks through the rules; the server's new address replaces the old."""
    configuration = Path("/etc/netns") / agent.namespace
    configuration.mkdir(parents=True)
    (configuration / "resolv.conf").write_text("nameserver 10.77.1.2\n")
    current = ["10.77.1.2"]
    resolver = network.server.socket(4, socket.SOCK_DGRAM)
    resolver.settimeout(None)
    resolver.bind(("", 53))
    thread = threading.Thread(target=answer_names, args=(resolver, lambda: current[0]), daemon=True)
    thread.start()
    inside = ["ip", "netns", "exec", agent.namespace]
    try:
        first = nac("isolate", "--server", "server.example:8443", "--json", prefix=inside)
        assert json.loads(first.stdout)["servers"] == ["10.77.1.2:8443"], first.stderr
        current[0] = "10.77.1.77"
        second = json.loads(nac("isolate", "--json", prefix=inside).stdout)
        assert (second["action"], second["servers"]) == ("addresses_updated", ["10.77.1.77:8443"])
    finally:
        shutil.rmtree(configuration)
        resolver.sendto(b"", ("10.77.1.2", 53))
        thread.join(5)
        resolver.close()


def test_an_agent_brings_a_requested_isolation_back_when_it_starts(agent, nac, tmp_path):
    def run_agent():
        command = [*EGUARD[:-1], "agent", "run", "--source", "psutil", "--duration", "0.5", "--state", str(tmp_path)]
        environment = {**os.environ, "EGUARD_BUNDLE_REPOSITORY": str(tmp_path / "none")}
        assert agent.run(*command, check=False, cwd=ROOT, env=environment).returncode == 0

    nac("isolate", *SERVERS)
    agent.run("nft", "flush", "ruleset")  # as after a restart of the machine
    assert agent.reaches("10.77.2.2", 8443, wait=2.0)
    run_agent()
    assert json.loads(nac("status", "--json").stdout)["state"] == "isolated"
    assert agent.reaches("10.77.1.2", 8443, wait=2.0)
    assert not agent.reaches("10.77.2.2", 8443)
    nac("allow")
    run_agent()
    assert agent.ruleset() == ""

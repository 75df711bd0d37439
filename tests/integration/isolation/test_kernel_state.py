"""The real nft and kernel: idempotence, restoring, status, and being killed in the middle."""

import os
import shutil
import signal
import subprocess
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from eguard.agent.isolation import Plan, inspect, render
from eguard.agent.isolation.kernel import Nft
from eguard.agent.isolation.ruleset import render_sets

pytestmark = pytest.mark.xdist_group("isolation")
SERVERS = ["10.77.1.2:8443", "[fd77:1::2]:8443"]
GOLDEN = Path(__file__).parents[2] / "golden" / "isolation.nft"


def plan_of(*endpoints):
    found = frozenset((ip_address(address), port) for address, port in endpoints)
    return Plan(found, frozenset(), (), 1_790_000_000, "test")


OLD = render(plan_of(("192.0.2.1", 1)))
NEW = render(plan_of(*((f"198.51.{i // 250}.{i % 250 + 1}", 443) for i in range(1500)), ("2001:db8::1", 443)))


def test_golden_rules_load_and_are_whole(agent):
    agent.nft(GOLDEN.read_text())
    with agent.inside():
        found = inspect(Nft().read())
    assert (found.state, found.defects) == ("isolated", ())
    assert found.dropped["input"] == {"packets": 3, "bytes": 180}
    assert found.servers == ("192.0.2.10:8443", "192.0.2.9:443", "192.0.2.9:8443", "[2001:db8::7]:8443")


def test_twice_leaves_the_same_rules_and_not_even_new_handles(agent, isolation):
    first = isolation.isolate(SERVERS, by="alice")
    before = agent.ruleset("-a")
    second = isolation.isolate(SERVERS, by="bob")
    assert (first.action, second.action) == ("isolated", "unchanged")
    assert agent.ruleset("-a") == before


def test_exchange_of_addresses_keeps_every_rule_but_the_record(agent, isolation):
    isolation.isolate(SERVERS)
    before = agent.run("nft", "-a", "list", "chain", "inet", "eguard_isolation", "output").stdout
    outcome = isolation.isolate([*SERVERS, "192.0.2.9:1"])
    assert (outcome.action, outcome.inspection.state) == ("addresses_updated", "isolated")
    assert agent.run("nft", "-a", "list", "chain", "inet", "eguard_isolation", "output").stdout == before


@pytest.mark.parametrize(
    "command",
    [
        "flush ruleset",
        "delete table inet eguard_isolation",
        "add table inet eguard_isolation { flags dormant; }",
        "flush chain inet eguard_isolation output",
        "add chain inet eguard_isolation input { policy accept; }",
        "insert rule inet eguard_isolation output accept",
        'insert rule inet eguard_isolation forward ip daddr 10.77.2.2 accept comment "ssh"',
        "add element inet eguard_isolation server_v4 { 10.77.2.2 . 8443 }",
        "flush set inet eguard_isolation server_v4",
    ],
)
def test_damage_is_seen_and_restored(agent, isolation, command):
    isolation.isolate(SERVERS)
    whole = isolation.status()
    assert (whole.inspection.state, whole.disagreements) == ("isolated", ())
    agent.nft(command + "\n")
    damaged = isolation.status()
    assert damaged.inspection.state != "isolated"
    assert isolation.restore().action == "isolated"
    restored = isolation.status()
    assert (restored.inspection.state, restored.disagreements) == ("isolated", ())
    assert restored.inspection.servers == whole.inspection.servers


def outcome_of_killing(agent, new, kill):
    agent.nft(OLD)
    before = agent.ruleset()
    agent.nft(new)
    after = agent.ruleset()
    agent.nft(OLD)
    with agent.inside():
        status = kill()
    found = agent.ruleset()
    assert found in (before, after)
    return status, found == after


@pytest.mark.parametrize("kind", ["table", "sets"])
def test_killed_nft_leaves_the_old_rules_or_the_new(agent, kind):
    new = NEW if kind == "table" else render_sets(plan_of(("203.0.113.1", 2), ("2001:db8::2", 3)))
    started = time.perf_counter()
    agent.nft(OLD)
    agent.nft(new)
    usual = (time.perf_counter() - started) * 0.7
    endings = []
    for step in range(10):

        def kill(delay=usual * step / 10):
            with subprocess.Popen([shutil.which("nft"), "-f", "-"], stdin=subprocess.PIPE) as process:
                process.stdin.write(new.encode())
                process.stdin.close()
                time.sleep(delay)
                process.kill()
            return process.returncode

        endings.append(outcome_of_killing(agent, new, kill))
    assert (-signal.SIGKILL, False) in endings


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_nft_killed_at_each_message_to_the_kernel_leaves_the_old_rules_or_the_new(agent, tmp_path):
    (tmp_path / "new.nft").write_text(NEW)
    endings = []
    for number in range(1, 40):

        def kill(when=number):
            inject = f"inject=sendto,sendmsg,recvmsg:signal=KILL:when={when}"
            command = ["strace", "-f", "-o", os.devnull, "-e", inject, "nft", "-f", str(tmp_path / "new.nft")]
            return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode

        endings.append(outcome_of_killing(agent, NEW, kill))
        if endings[-1][0] == 0:
            break
    if endings[0] == (0, True):
        pytest.skip("strace may not trace here")
    assert endings[-1] == (0, True)
    assert len(endings) > 3
    assert {is_new for _, is_new in endings} == {False, True}


def test_missing_privileges_are_named(agent):
    without = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "nft", "-j", "list", "tables", "inet"]
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    from eguard.agent.isolation.kernel import explain_failure

    refused = agent.run(*without, check=False)
    error = explain_failure(refused.stderr, refused.returncode)
    assert "does not let this process" in error.message
    assert "CAP_NET_ADMIN" in error.remedy

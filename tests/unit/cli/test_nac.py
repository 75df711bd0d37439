"""The command's words, exit codes and JSON, with a filter in memory instead of the kernel's."""

import json
import pwd

import pytest
from typer.testing import CliRunner

from eguard.agent.isolation import HostIsolation, Inspection, Standing
from eguard.agent.isolation.host import Outcome
from eguard.cli import nac
from eguard.cli.app import EXIT_MISSING, exit_code
from eguard.errors import IsolationError, IsolationUnavailableError

WHOLE = Inspection(
    "isolated",
    1_790_000_000,
    "alice\x1b[2J",
    ("192.0.2.7:8443",),
    ("192.0.2.53",),
    ("server.example",),
    {"input": {"packets": 3, "bytes": 180}},
)


class HostThatAnswers(HostIsolation):
    def __init__(self, standing):
        self.standing = standing
        self.calls = []

    def status(self):
        return self.standing

    def isolate(self, servers=(), resolvers=(), *, by=""):
        self.calls.append((list(servers), list(resolvers), by))
        return Outcome("isolated", self.standing.inspection, ("mind the gap",))


@pytest.fixture
def run(monkeypatch):
    def call(*arguments, standing=None):
        host = HostThatAnswers(standing or Standing(WHOLE, None, ()))
        monkeypatch.setattr(nac, "_host", lambda _: host)
        return CliRunner().invoke(nac.app, list(arguments)), host

    return call


def test_isolate_hands_on_servers_resolvers_and_person(run):
    answer, host = run("isolate", "-s", "a:1", "--server", "b:2", "--resolver", "192.0.2.53", "--by", "alice", "--json")
    assert host.calls == [(["a:1", "b:2"], ["192.0.2.53"], "alice")]
    facts = json.loads(answer.stdout)
    assert (facts["action"], facts["since"], facts["warnings"]) == (
        "isolated",
        "2026-09-21T14:13:20+00:00",
        ["mind the gap"],
    )


@pytest.mark.parametrize(("sudo", "expected"), [("bob", "bob (sudo)"), ("", None)])
def test_person_is_who_called_sudo(run, monkeypatch, sudo, expected):
    monkeypatch.setenv("SUDO_USER", sudo)
    _, host = run("isolate", "-s", "a:1")
    assert host.calls[0][2] == (expected or pwd.getpwuid(nac.os.getuid()).pw_name)


def test_words_for_people_carry_no_control_bytes(run):
    answer, _ = run("status")
    assert answer.exit_code == 0
    assert "\x1b" not in answer.stdout
    assert "dropped, input  3 packets, 180 bytes" in answer.stdout


@pytest.mark.parametrize(
    ("standing", "status"),
    [
        (Standing(WHOLE, None, ()), 0),
        (Standing(Inspection("not_isolated"), None, ()), 0),
        (Standing(Inspection("partial", defects=("a hole",)), None, ()), 1),
        (Standing(Inspection("not_isolated"), None, ("requested",)), 1),
    ],
    ids=["isolated", "not", "partial", "disagrees"],
)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_status_fails_when_isolation_is_not_what_it_should_be(run, standing, status, form):
    answer, _ = run("status", *form, standing=standing)
    assert answer.exit_code == status
    assert all(sentence in answer.stdout for sentence in (*standing.inspection.defects, *standing.disagreements))


def test_times_outside_the_calendar_are_unknown(run):
    answer, _ = run("status", "--json", standing=Standing(Inspection("isolated", 10**18), None, ()))
    assert json.loads(answer.stdout)["since"] is None


def test_a_machine_that_cannot_isolate_is_told_from_a_wrong_request():
    assert exit_code(IsolationUnavailableError("no nft")) == EXIT_MISSING
    assert exit_code(IsolationError("no such name")) == 2

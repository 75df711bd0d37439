"""Commands from a server on a real socket: each done once and answered for."""

import time
from types import SimpleNamespace

import pytest

from eguard.agent.control.commands import CommandRunner
from eguard.agent.isolation import Inspection, Outcome
from eguard.errors import (
    IsolationUnavailableError,
    ServerUnavailableError,
)
from eguard.wire.control import Command


class Host:
    """Counts what is done to a host."""

    def __init__(self, state="not_isolated", failure=None):
        self.state = state
        self.done = []
        self.failure = failure

    def isolate(self, servers, **_):
        return self._do("isolated", servers)

    def allow(self, **_):
        return self._do("not_isolated", [])

    def status(self):
        return SimpleNamespace(inspection=Inspection(self.state))

    def _do(self, state, servers):
        self.done.append((state, servers))
        if isinstance(self.failure, BaseException):
            raise self.failure
        self.state = state
        return Outcome("isolated" if state == "isolated" else "allowed", Inspection(state))


def command(number=1, kind="isolate", **given):
    fields = {
        "command_id": f"c{number}", "kind": kind, "reason": "drill", "created_at_unix": time.time(),
        "expires_at_unix": time.time() + 60.0,
    }  # fmt: skip
    return Command(**(fields | given))


def answered(server):
    return [(seen.json["command_id"], seen.json["status"]) for seen in server.seen["/endpoint/command/ack"]]


def test_commands_are_done_once_in_their_order_and_answered_for(bench, control_server, tmp_path):
    host = Host()
    control_server.commands = [command(1), command(2, "allow")]
    runner = CommandRunner(tmp_path, bench.client, host)
    runner.run()
    assert host.done == [("isolated", [f"localhost:{control_server.port}"]), ("not_isolated", [])]
    assert answered(control_server) == [("c1", "done"), ("c2", "done")]
    CommandRunner(tmp_path, bench.client, host).run()
    assert len(host.done) == 2


def test_an_answer_that_was_lost_is_given_again_and_nothing_is_done_again(bench, control_server, tmp_path):
    host = Host()
    control_server.commands = [command(1)]
    good, control_server.answers["/endpoint/command/ack"] = control_server.ack, lambda _: (500, b"")
    with pytest.raises(ServerUnavailableError):
        CommandRunner(tmp_path, bench.client, host).run()
    control_server.answers["/endpoint/command/ack"] = good
    again = CommandRunner(tmp_path, bench.client, host)
    again.run()
    assert len(host.done) == 1
    assert answered(control_server)[-1] == ("c1", "done")
    control_server.commands = [command(1)]  # the server has forgotten that it was answered
    again.run()
    assert len(host.done) == 1
    assert answered(control_server)[-1] == ("c1", "done")


@pytest.mark.parametrize(("state", "status"), [("isolated", "done"), ("not_isolated", "failed"), ("partial", "failed")])
def test_what_was_begun_before_a_crash_is_answered_by_the_kernels_word(state, status, bench, control_server, tmp_path):
    control_server.commands = [command(1)]
    with pytest.raises(KeyboardInterrupt):
        CommandRunner(tmp_path, bench.client, Host(failure=KeyboardInterrupt())).run()
    host = Host(state)
    CommandRunner(tmp_path, bench.client, host).run()
    assert host.done == []
    assert answered(control_server) == [("c1", status)]


def test_commands_that_cannot_be_done_say_why(bench, control_server, tmp_path):
    control_server.commands = [command(1)]
    CommandRunner(tmp_path, bench.client, Host(failure=IsolationUnavailableError("no nft", remedy="Install it."))).run()
    control_server.commands = [command(2)]
    CommandRunner(tmp_path, bench.client, None).run()
    control_server.commands = [command(3, expires_at_unix=time.time() + 5.0)]
    late = Host()
    CommandRunner(tmp_path, bench.client, late, lambda: 10.0).run()  # by the server's clock it is over
    assert late.done == []
    acks = [seen.json for seen in control_server.seen["/endpoint/command/ack"]]
    assert [ack["status"] for ack in acks] == ["failed"] * 3
    assert "no nft Install it." in acks[0]["detail"]
    assert "replays" in acks[1]["detail"]
    assert "expired" in acks[2]["detail"]


def test_a_record_that_cannot_be_read_is_put_aside(bench, control_server, tmp_path):
    (tmp_path / "commands.json").write_bytes(b"{")
    control_server.commands = [command(1)]
    CommandRunner(tmp_path, bench.client, Host()).run()
    assert (tmp_path / "commands.unreadable").exists()
    assert answered(control_server) == [("c1", "done")]

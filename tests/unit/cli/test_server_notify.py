"""`eguard server notify`: tried out against real receivers, and listed from the outbox."""

import json
import socket

import pytest
from typer.testing import CliRunner

from eguard.cli.app import app
from eguard.fleet import FleetStore
from eguard.server.services.notifications import notify


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("EGUARD_SERVER_STATE_PATH", str(tmp_path / "server"))
    monkeypatch.setenv("COLUMNS", "220")
    (tmp_path / "server").mkdir()
    return tmp_path / "server"


@pytest.fixture
def datagrams():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.settimeout(5.0)
        yield opened


def call(*arguments):
    return CliRunner().invoke(app, ["server", "notify", *arguments])


def test_a_test_message_is_sent_now(place, datagrams, monkeypatch):
    monkeypatch.setenv("EGUARD_NOTIFY_SYSLOG", f"udp://127.0.0.1:{datagrams.getsockname()[1]}")
    shown = call("test", "--json")
    assert shown.exit_code == 0, shown.output
    (result,) = json.loads(shown.output)["results"]
    assert (result["sink"], result["ok"]) == ("syslog", True)
    assert f'id="{result["id"]}" kind="test"'.encode() in datagrams.recv(4096)


def test_a_sink_that_fails_is_named_with_cause_and_remedy_and_without_secrets(place, datagrams, monkeypatch):
    port = datagrams.getsockname()[1]  # nothing of ours listens on its TCP twin
    monkeypatch.setenv("EGUARD_NOTIFY_SYSLOG", f"udp://127.0.0.1:{port}")
    monkeypatch.setenv("EGUARD_NOTIFY_WEBHOOK_URL", f"http://127.0.0.1:{port}/canary-path")
    monkeypatch.setenv("EGUARD_NOTIFY_WEBHOOK_SECRET", "canary-secret")
    shown = call("test")
    assert shown.exit_code == 1
    assert f"webhook http://127.0.0.1:{port}: not sent" in shown.output
    assert "refused" in shown.output
    assert "remedy: Check that the receiver" in shown.output
    assert f"syslog udp://127.0.0.1:{port}: sent" in shown.output
    assert "canary" not in shown.output


def test_without_a_sink_there_is_nothing_to_try(place):
    assert "nobody to tell" in str(call("test").exception)


def test_messages_are_listed_with_their_states(place):
    with FleetStore.create(f"sqlite:///{place}/fleet.sqlite") as store, store.database.write() as connection:
        notify(connection, kind="alert", severity="warning", title="odd \x1b[31mname", detail={}, now=1_772_000_000.0)
    shown = call("list")
    assert shown.exit_code == 0, shown.output
    assert "2026-02-25 06:13" in shown.output
    assert "\x1b[31m" not in shown.output
    assert "new" in shown.output
    (message,) = json.loads(call("list", "--json").output)["notifications"]
    assert (message["kind"], message["deliveries"]) == ("alert", [])

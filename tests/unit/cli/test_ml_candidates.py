"""The commands on candidates, against a server of their own."""

import json

import pytest
from attacks.agent_place import release
from promotion_scene import id_of, names, shadow
from server_place import CONSOLE, server_place
from typer.testing import CliRunner

from eguard.bundle import Repository, generate_keys
from eguard.cli.ml import app
from eguard.server.principal import Principal, Role
from eguard.server.services.candidates import Build
from eguard.wire.control import Heartbeat

GATES = ({"name": "holdout recall", "value": 0.81, "rule": ">=", "threshold": 0.7, "passed": True},)


@pytest.fixture
def place(tmp_path, monkeypatch):
    with server_place(tmp_path) as running:
        keys = generate_keys(running.settings.server_state_path / "keys")
        Repository(running.settings.repository, keys).publish(release("one"))
        monkeypatch.setenv("EGUARD_API", f"https://localhost:{running.running.admin_port}")
        monkeypatch.setenv("EGUARD_TLS_CA", str(running.authority_file))
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setenv("EGUARD_API_TOKEN", running.token())
        running.context.candidates.register(CONSOLE, Build(release("two"), "nightly", "night-1", GATES))
        yield running


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def answer(*arguments, code=0):
    return json.loads(run(*arguments, "--json", code=code))


def test_a_candidate_is_listed_promoted_refused_forced_and_taken_back(place):
    two = id_of(release("two"))
    assert two in run("candidates", "list")
    assert answer("promote", two)["stage"] == "shadow"
    refused = answer("promote", two, "--stage", "1", code=1)
    assert refused["refused"]
    assert {each["code"] for each in refused["causes"]} == {"dwell", "load_failures", "shadow_scores"}
    assert "stays where it is" in run("promote", two, code=1)
    place.context.endpoints.heartbeat(
        Principal(names(1, inside=False)[0], Role.AGENT),
        Heartbeat(agent_id="a", incarnation="i", agent_version="1", baseline_status="active",
                  shadow=shadow(release("two"))),
    )  # fmt: skip
    shown = run("candidates", "show", two)
    for words in ("holdout recall", "1000 events on 1 agents", "candidate.promote", "not yet: "):
        assert words in " ".join(shown.split())
    promoted = answer("promote", two, "--stage", "stable", "--force", "--reason", "a test fleet")
    assert (promoted["stage"], promoted["percent"]) == ("stable", 100.0)
    stages = {each["model_version"]: each["stage"] for each in answer("candidates", "list")["candidates"]}
    assert stages == {"one": "superseded", "two": "stable"}
    back = answer("rollback", "--reason", "alerts doubled")
    assert (back["model_version"], back["stage"]) == ("one", "stable")
    assert back["versions"]["nightly"] == promoted["versions"]["nightly"] + 1


def test_what_is_no_stage_is_bad_usage(place):
    assert "shadow, stable or a share" in " ".join(run("promote", "ab", "--stage", "most", code=2).split())


def test_an_unknown_candidate_is_named(place):
    result = CliRunner().invoke(app, ["candidates", "show", "0" * 16])
    assert result.exit_code != 0
    assert "there is no candidate 0000000000000000" in str(result.exception or result.output)

"""`eguard agent enroll`, as an operator types it, against the fleet's own server."""

import json
import stat

import pytest
from server_place import CONSOLE, server_place
from typer.testing import CliRunner

from eguard.agent.control.credentials import TlsFiles
from eguard.agent.control.enrolment_files import read_enrolment, with_enrolment
from eguard.cli.agent import app
from eguard.errors import ConfigError, ServerRefusalError
from eguard.settings import AgentSettings


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("enroll")) as running:
        yield running


@pytest.fixture
def enroll(place, tmp_path):
    """Run the command with the server's address and authority, and a token."""
    token = tmp_path / "token"
    token.write_text(place.context.enrolment.tokens.create(CONSOLE).secret + "\n")

    def run(*arguments, stdin=None, given=True):
        fixed = ["--server", f"https://localhost:{place.running.agent_port}", "--ca", str(place.authority_file)]
        last = ["--token-file", str(token)] if given else []
        return CliRunner().invoke(
            app, ["enroll", *fixed, "--state", str(tmp_path / "state"), *last, *arguments], input=stdin
        )  # fmt: skip

    return run


def test_it_leaves_what_the_agent_needs_and_says_where(enroll, tmp_path, place):
    answer = enroll("--agent-id", "typed", "--json")
    assert answer.exit_code == 0, answer.output
    said = json.loads(answer.stdout[answer.stdout.index("{") :])
    assert (said["agent_id"], said["enrolled"]) == ("typed", "now")
    folder = tmp_path / "state" / "tls"
    assert stat.S_IMODE((folder / "agent.pem").stat().st_mode) == 0o600
    settings = with_enrolment(AgentSettings(state_path=tmp_path / "state"))
    assert (settings.agent_id, settings.server) == ("typed", read_enrolment(folder).server)
    TlsFiles.of(settings).context()
    again = enroll("--agent-id", "typed", "--json")  # the token is used up; nothing is asked
    assert '"before"' in again.output
    listed = place.context.certificates.list("typed")
    assert len(listed) == 1


def test_the_token_may_come_on_standard_input(place, enroll):
    secret = place.context.enrolment.tokens.create(CONSOLE).secret
    answer = enroll("--agent-id", "piped", "--token-file", "-", stdin=f"{secret}\n", given=False)
    assert answer.exit_code == 0, answer.output
    assert secret not in answer.output


def test_another_name_needs_force(place, enroll):
    assert enroll("--agent-id", "before").exit_code == 0
    refused = enroll("--agent-id", "after")
    assert isinstance(refused.exception, ConfigError)
    assert "--force" in refused.exception.remedy
    secret = place.context.enrolment.tokens.create(CONSOLE).secret
    assert enroll("--agent-id", "after", "--force", "--token", secret, given=False).exit_code == 0


@pytest.mark.parametrize(("arguments", "given"), [((), False), (("--token", "x"), True)])
def test_a_token_is_given_once(arguments, given, enroll):
    answer = enroll("--agent-id", "tokens", *arguments, given=given)
    assert isinstance(answer.exception, ConfigError)
    assert "one token" in answer.exception.message


def test_a_wrong_token_is_refused_and_never_repeated_in_the_answer(enroll, tmp_path):
    answer = enroll("--agent-id", "wrong", "--token", "canary-secret-4711", given=False)
    assert isinstance(answer.exception, ServerRefusalError)
    assert "canary-secret-4711" not in answer.output + str(answer.exception)
    assert not (tmp_path / "state" / "tls").exists()


def test_without_a_server_it_says_what_to_give():
    answer = CliRunner().invoke(app, ["enroll", "--token", "x"])
    assert isinstance(answer.exception, ConfigError)
    assert "--server" in answer.exception.remedy

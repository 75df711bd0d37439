"""`eguard server pki|token|user|agent|audit` on a server's folder, as an operator types them."""

import json
import stat

import pytest
import sqlalchemy as sa
from cryptography import x509
from typer.testing import CliRunner

from eguard.cli import server
from eguard.clock import SystemClock
from eguard.errors import ConfigError, GateFailedError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import audit_log
from eguard.server.pki import facts_of, make_key_and_request
from eguard.server.principal import Principal, Role
from eguard.server.services.endpoints import Endpoints
from eguard.wire.control import Heartbeat

PASSWORD = "correct horse battery"


@pytest.fixture
def run(tmp_path, monkeypatch):
    for name in ("EGUARD_DATABASE_URL", "EGUARD_PKI_PASSPHRASE", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EGUARD_SERVER_STATE_PATH", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments, stdin=None):
        return CliRunner().invoke(server.app, [str(argument) for argument in arguments], input=stdin)

    return invoke


@pytest.fixture
def told(run):
    """Run a command with --json and return what it says."""

    def invoke(*arguments, stdin=None):
        answer = run(*arguments, "--json", stdin=stdin)
        assert answer.exit_code == 0, (answer.output, answer.exception)
        return json.loads(answer.stdout)

    return invoke


@pytest.fixture
def authority(told):
    return told("pki", "init", "--name", "localhost", "-n", "192.0.2.1")


def records(told):
    return told("audit", "list")["records"]


def test_an_authority_is_made_once(authority, run, told, monkeypatch):
    assert authority["names"] == ["localhost", "192.0.2.1"]
    again = run("pki", "init", "--name", "localhost")
    assert isinstance(again.exception, ConfigError)
    assert "rotate" in again.exception.remedy
    shown = told("pki", "show")
    assert (shown["certificates_live"], shown["earlier_authorities"]) == (0, [])


def test_before_it_is_made_the_remedy_is_told(run):
    answer = run("pki", "show")
    assert isinstance(answer.exception, ConfigError)
    assert "eguard server pki init" in answer.exception.remedy


def test_a_certificate_is_issued_into_a_folder_that_was_free(authority, run, told, tmp_path):
    issued = told("pki", "issue", "front desk", "--out", tmp_path / "desk")
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "desk").iterdir()}
    assert names == {"agent.pem": 0o600, "agent.key": 0o600, "ca.pem": 0o600}
    facts = facts_of(x509.load_pem_x509_certificate((tmp_path / "desk" / "agent.pem").read_bytes()))
    assert (facts.agent_id, facts.serial_hex) == ("front desk", issued["serial"])
    again = run("pki", "issue", "other", "--out", tmp_path / "desk")
    assert isinstance(again.exception, ConfigError)
    taken = run("pki", "issue", "front desk", "--out", tmp_path / "desk2")
    assert isinstance(taken.exception, ServerRefusalError)
    assert not (tmp_path / "desk2").exists()


def test_a_key_that_stays_where_it_is_gets_a_certificate(authority, told, run, tmp_path):
    (tmp_path / "csr.pem").write_text(make_key_and_request("web-7")[1])
    told("pki", "issue", "web-7", "--csr", tmp_path / "csr.pem", "--out", tmp_path / "web-7")
    assert sorted(path.name for path in (tmp_path / "web-7").iterdir()) == ["agent.pem", "ca.pem"]
    forged = run("pki", "issue", "web-8", "--csr", tmp_path / "csr.pem", "--out", tmp_path / "web-8")
    assert forged.exception.reason == "csr_name"


def test_certificates_are_revoked_by_agent_or_by_serial_number(authority, run, told, tmp_path):
    first = told("pki", "issue", "a", "--out", tmp_path / "a")
    second = told("pki", "issue", "b", "--out", tmp_path / "b")
    assert told("pki", "revoke", "a", "--reason", "lost") == {"revoked": [first["serial"]]}
    assert told("pki", "revoke", "--serial", f"0{second['serial'].upper()}", "--reason", "lost") == {
        "revoked": [second["serial"]]
    }
    for wrong in (["a", "--serial", "ab"], []):
        assert isinstance(run("pki", "revoke", *wrong, "--reason", "x").exception, ConfigError)
    assert told("pki", "show")["certificates_revoked"] == 2


def test_the_authority_is_succeeded_and_retired(authority, run, told, tmp_path):
    before = told("pki", "show")["authority"]
    assert told("pki", "rotate", "--name", "eguard.example")["server_names"] == ["eguard.example"]
    assert told("pki", "rotate", "--authority")["earlier_authorities"] == [before]
    assert told("pki", "rotate", "--retire")["retired"] == [before]
    assert isinstance(run("pki", "rotate", "--authority", "--retire").exception, ConfigError)


def test_a_token_is_shown_once_or_kept_in_a_file(run, told, tmp_path):
    shown = told("token", "create", "--group", "web", "--max-uses", 3, "--note", "rack 3")
    assert shown["token"].startswith(f"eguard-enrol-{shown['token_id']}-")
    kept = told("token", "create", "--out", tmp_path / "token")
    assert "token" not in kept
    text = (tmp_path / "token").read_text()
    assert text.startswith("eguard-enrol-")
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    again = run("token", "create", "--out", tmp_path / "token")
    assert isinstance(again.exception, ConfigError)
    assert (tmp_path / "token").read_text() == text
    listed = run("token", "list").stdout
    assert "0 of 3" in listed
    assert text.strip() not in listed
    assert len(told("token", "list")["tokens"]) == 2
    assert told("token", "revoke", shown["token_id"]) == {"revoked": shown["token_id"]}


def test_access_tokens_are_made_listed_and_revoked(run, told, tmp_path):
    made = told("token", "access", "create", "nightly", "--role", "admin", "--out", tmp_path / "api")
    assert (tmp_path / "api").read_text().startswith(f"eguard-access-{made['token_id']}-")
    assert "nightly" in run("token", "access", "list").stdout
    told("token", "access", "revoke", made["token_id"])
    assert told("token", "access", "list")["tokens"][0]["revoked_at_unix"] is not None
    assert run("token", "access", "create", "x", "--role", "agent").exit_code == 2


def test_accounts_are_made_from_a_password_on_standard_input(run, told):
    assert told("user", "add", "ada", "--role", "admin", stdin=PASSWORD + "\n") == {"name": "ada", "role": "admin"}
    weak = run("user", "add", "eve", "--role", "admin", stdin="short\n")
    assert weak.exception.reason == "weak_password"
    told("user", "disable", "ada")
    assert told("user", "list")["accounts"][0]["disabled_at_unix"] is not None
    told("user", "enable", "ada")
    told("user", "password", "ada", stdin="another horse battery\n")
    assert "ada" in run("user", "list").stdout
    output = run("user", "list", "--json").output + run("audit", "list", "--json").output
    assert "horse" not in output
    assert "argon2" not in output


def test_agents_are_listed_and_decided_about(authority, run, told, tmp_path):

    told("pki", "issue", "web-7", "--out", tmp_path / "web-7")
    database = Database(f"sqlite:///{tmp_path}/state/fleet.sqlite")
    beat = Heartbeat(agent_id="web-7", incarnation="i", agent_version="1\x1b[2J", baseline_status="active")
    Endpoints(database, SystemClock()).heartbeat(Principal("web-7", Role.AGENT), beat)
    database.dispose()
    assert told("agent", "move", "web-7", "web")["group"] == "web"
    assert told("agent", "quarantine", "web-7", "--reason", "odd")["status"] == "quarantined"
    assert told("agent", "release", "web-7", "--reason", "fine")["status"] == "active"
    table = run("agent", "list", "--status", "active", "--group", "web").stdout
    assert "web-7" in table
    assert "\x1b" not in table
    assert "incarnation" in run("agent", "show", "web-7").stdout
    assert len(told("agent", "show", "web-7")["certificates"]) == 1
    assert told("agent", "decommission", "web-7", "--reason", "sold")["status"] == "decommissioned"
    assert told("agent", "list", "--status", "lost") == {"rows": [], "next_cursor": None, "total": 0}
    unknown = run("agent", "show", "nobody")
    assert unknown.exception.reason == "unknown_agent"


def test_what_is_done_at_the_console_is_on_record_by_the_machines_user(authority, told, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "operator")
    told("token", "create")
    latest = records(told)[0]
    assert (latest["principal"], latest["role"], latest["credential"]) == ("operator", "admin", "console")
    assert latest["action"] == "enrolment_token.create"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "ada")
    told("token", "create")
    assert records(told)[0]["principal"] == "ada"


def test_a_broken_log_ends_with_exit_code_one(authority, run, told, tmp_path):
    head = told("audit", "verify")["head"]
    kept = f"{head['sequence']}:{head['record_hash']}"
    assert told("audit", "verify", "--head", kept)["intact"]
    assert "intact   True" in run("audit", "verify").stdout
    database = Database(f"sqlite:///{tmp_path}/state/fleet.sqlite")
    with database.write() as connection:
        connection.execute(sa.update(audit_log).where(audit_log.c.action == "pki.init").values(principal="eve"))
    database.dispose()
    broken = run("audit", "verify")
    assert isinstance(broken.exception, GateFailedError)
    assert "is not what was written" in broken.exception.message
    assert isinstance(run("audit", "verify", "--head", "12").exception, ConfigError)

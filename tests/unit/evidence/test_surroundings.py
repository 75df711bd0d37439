"""What is found on this machine, and what an endpoint can do without a server's packages."""

import subprocess
import sys
from pathlib import Path

import pytest

from eguard.evidence.signing import Custody
from eguard.evidence.surroundings import authority_here, fleet_database, redactor_here
from eguard.fleet.database import Database
from eguard.server.pki.files import pki_folder
from eguard.settings import ServerSettings


@pytest.fixture
def pki(tmp_path):
    folder = pki_folder(ServerSettings(server_state_path=tmp_path / "server"))
    folder.create(["127.0.0.1"], 1_772_000_000.0)
    return folder


def test_an_authority_is_the_same_whatever_stands_around_it_and_in_whatever_order(tmp_path, pki, monkeypatch):
    other = pki_folder(ServerSettings(server_state_path=tmp_path / "other"))
    other.create(["127.0.0.1"], 1_772_000_000.0)
    one, two = (each.trust_file.read_text() for each in (pki, other))
    seen = []
    for name, text in (("a", one), ("b", f"# notes\n\n{one}\n"), ("c", two), ("d", one + two), ("e", two + one)):
        (tmp_path / name).write_text(text)
        monkeypatch.setenv("EGUARD_TLS_CA", str(tmp_path / name))
        seen.append(authority_here())
    assert seen[0] == seen[1] != seen[2]
    assert seen[3] == seen[4] not in seen[:3]
    assert all(len(each) == 64 for each in seen)


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"]
)
def test_without_an_authority_there_is_no_fingerprint(tmp_path, monkeypatch, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("EGUARD_TLS_CA", str(path))
    assert authority_here() == ""


def test_the_database_is_used_where_there_is_one_and_none_is_made(tmp_path):
    settings = ServerSettings(server_state_path=tmp_path)
    assert fleet_database(settings) is None
    assert list(tmp_path.iterdir()) == []
    made = Database(settings.fleet_url)
    with made.write() as connection:
        connection.exec_driver_sql("CREATE TABLE x (y)")
    made.dispose()
    found = fleet_database(settings)
    assert found is not None
    found.dispose()


def test_the_keys_of_this_machine_are_known(tmp_path, pki, monkeypatch):
    monkeypatch.setenv("EGUARD_SERVER_STATE_PATH", str(tmp_path / "server"))
    custody = Custody(tmp_path / "evidence")
    custody.signer()
    redactor = redactor_here(custody)
    for path in (custody.key_path, pki.trust_file.with_name("server.pem")):
        line = path.read_text().partition("PRIVATE KEY-----\n")[2].splitlines()[0]
        assert redactor.found_in(line.encode()) == f"the secret of the key {path.name}"


def test_settings_that_cannot_be_read_do_not_hide_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("EGUARD_HEARTBEAT_SECONDS", "soon")
    monkeypatch.setenv("DB_PASSWORD", "canary-password")
    assert redactor_here(Custody(tmp_path)).text("canary-password") == "[redacted]"


def test_an_endpoint_needs_no_servers_packages_to_drill_and_to_verify():
    program = (
        "import sys\n"
        "absent = ('sqlalchemy', 'fastapi', 'uvicorn', 'pandas', 'httpx2', 'eguard.fleet')\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "import eguard.evidence.pack.verify, eguard.evidence.readiness.page, eguard.evidence.readiness.course\n"
        "from eguard.evidence.readiness.drills import title_of\n"
        "from eguard.evidence.surroundings import fleet_database\n"
        "from eguard.settings import ServerSettings\n"
        "print([bool(title_of(name)) for name in ('sensors', 'bundle', 'mtls', 'evidence')])\n"
        "print(fleet_database(ServerSettings()))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
    assert answer.stdout.split("\n")[:2] == ["[True, True, True, True]", "None"], answer.stderr

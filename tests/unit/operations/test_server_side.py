"""A server's keys and certificates, made by the server's own hand and then spoilt."""

import time
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from eguard.operations import Examination, run_checks
from eguard.server.pki import Authority, PkiFolder
from eguard.settings import ServerSettings

DAY = 86_400.0


@pytest.fixture
def pki(tmp_path):
    folder = PkiFolder(tmp_path / "server" / "pki")
    folder.create(["eguard.example", "10.0.0.1"], time.time())
    return folder


@pytest.fixture
def look(tmp_path):
    """Run the check `days` from now."""

    def run(days=0.0, **changes):
        settings = ServerSettings(server_state_path=tmp_path / "server", **changes)
        clock = SimpleNamespace(now=lambda: time.time() + days * DAY)
        return run_checks(Examination(None, settings, clock=clock), ["server_certificate"])[0]

    return run


def test_a_machine_without_a_server_is_left_alone(look, tmp_path):
    assert look().state == "skipped"
    (tmp_path / "server").mkdir()
    assert look().state == "skipped"


def test_a_good_server_is_named_with_its_dates(look, pki):
    found = look()
    assert found.state == "ok", found
    assert "for eguard.example, 10.0.0.1, until" in found.cause
    assert "(398 days); the authority holds for 3650 days" in found.cause


@pytest.mark.parametrize(
    ("days", "state", "says", "helps"),
    [
        (370.0, "warning", "eguard.example, 10.0.0.1 expires in 28.0 days", "pki rotate"),
        (400.0, "failed", "expired 2.0 days ago", "pki rotate"),
        (-2.0, "failed", "is not valid before", "clock"),
    ],
    ids=["soon", "over", "not yet"],
)
def test_dates_of_the_servers_certificate(look, pki, days, state, says, helps):
    found = look(days)
    assert (found.state, says in found.cause, helps in found.remedy) == (state, True, True), found


def test_an_authority_is_to_be_followed_in_time(look, pki):
    pki.renew_server(None, time.time() + 3500 * DAY)
    found = look(3500.0)
    assert (found.state, "the authority expires in 150 days" in found.cause) == ("warning", True), found
    assert found.remedy.endswith("eguard server pki rotate --authority")


@pytest.mark.parametrize("name", ["authority.pem", "server.pem", "policy-1.pem"])
def test_a_key_that_others_can_read_is_told(look, pki, name):
    path = pki.path / name if name != "policy-1.pem" else pki.path.parent / "keys" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    path.chmod(0o640)
    found = look()
    assert (found.state, f"others can read the private key {path}" in found.cause) == ("failed", True)


@pytest.mark.parametrize("name", ["authority.pem", "ca.pem", "agents-ca.pem", "server.pem"])
def test_a_missing_file_is_told(look, pki, name):
    (pki.path / name).unlink()
    found = look()
    assert (found.state, f"there is no {pki.path / name}") == ("failed", found.cause)


@pytest.mark.parametrize(
    ("name", "words"), [("ca.pem", "agents refuse it"), ("agents-ca.pem", "refuses the agents that it lets in")]
)
def test_an_authority_that_one_side_does_not_trust_is_told(look, pki, tmp_path, name, words):
    other = PkiFolder(tmp_path / "other")
    other.create(["eguard.example"], time.time())
    (pki.path / name).write_bytes((other.path / name).read_bytes())
    found = look()
    assert (found.state, words in found.cause) == ("failed", True), found


def test_a_key_of_another_certificate_is_told(look, pki):
    key = pki.server_file.read_text().partition("-----BEGIN CERTIFICATE-----")[0]
    pki.renew_server(None, time.time())
    certificate = pki.server_file.read_text().partition("-----BEGIN CERTIFICATE-----")[2]
    pki.server_file.write_text(f"{key}-----BEGIN CERTIFICATE-----{certificate}")
    found = look()
    assert (found.state, "do not belong together" in found.cause) == ("failed", True), found


def test_a_wrong_passphrase_is_told_and_never_shown(look, tmp_path):
    PkiFolder(tmp_path / "server" / "pki", "right").create(["eguard.example"], time.time())
    assert look(pki_passphrase="right").state == "ok"
    found = look(pki_passphrase="s3cr3t")
    assert found.state == "failed"
    assert "s3cr3t" not in found.cause + found.remedy


def test_after_a_rotation_both_authorities_count(look, pki):
    pki.succeed(time.time())
    assert look().state == "ok"
    pki.trust_file.write_bytes(Authority.create(time.time())[0].certificate.public_bytes(Encoding.PEM))
    assert look().state == "failed"

"""Who this machine is to its server, and what each refusal of it calls for."""

import time

import pytest

from eguard.agent.control.enrolment_files import Enrolment, keep_enrolment
from eguard.errors import ServerRefusalError
from eguard.operations import Examination
from eguard.operations.enrolment import REFUSED, judge_refusal
from eguard.settings import AgentSettings
from eguard.wire.control import EnrolmentAnswer

SERVER = "https://localhost:8443"


@pytest.fixture
def enrolled(authority, tmp_path):
    """Leave the files of an enrolment behind, and return settings that nobody wrote anything in."""

    def make(name="agent-7", **changes):
        settings = AgentSettings(**({"state_path": tmp_path / "state"} | changes))
        certificate, key = authority.issue(name)
        answer = EnrolmentAnswer(
            agent_id=name,
            certificate_pem=certificate.read_text(),
            authority_pem=authority.file.read_text(),
            policy_keys=(),
        )
        kept = Enrolment(server=SERVER, agent_id=name, enrolled_at_unix=time.time() - 600.0)
        keep_enrolment(settings.tls_folder, kept, answer, key.read_bytes())
        return settings

    return make


def test_an_enrolment_stands_in_for_what_is_not_set(examine, enrolled):
    here = enrolled()
    found = examine("enrolment", with_settings=here)
    assert (found.state, found.cause) == ("ok", f"as agent-7 with {SERVER}, 10 min ago")
    settings = Examination(here).settings
    assert (settings.server, settings.agent_id) == (SERVER, "agent-7")
    assert settings.tls_cert == settings.tls_key == here.tls_folder / "agent.pem"
    assert settings.tls_ca == here.tls_folder / "ca.pem"
    for name in ("transport", "tls_files", "tls_certificate", "tls_authority"):
        assert examine(name, with_settings=here).state == "ok"


def test_what_an_operator_set_stays(examine, enrolled, authority):
    certificate, key = authority.issue("agent-7")
    here = enrolled(tls_cert=certificate, tls_key=key, server=SERVER, agent_id="agent-7")
    found = examine("enrolment", with_settings=here)
    assert (found.state, "is managed by an operator" in found.cause) == ("ok", True)
    assert Examination(here).settings.tls_key == key


def test_a_machine_without_server_and_enrolment_works_alone(examine):
    found = examine("enrolment")
    assert (found.state, "works alone" in found.cause) == ("skipped", True)


def test_a_server_without_an_enrolment_is_a_failure(examine, settings):
    found = examine("enrolment", with_settings=settings(server=SERVER))
    assert (found.state, "this machine is not enrolled" in found.cause) == ("failed", True)
    assert found.remedy == "sudo eguard agent enroll --server https://NAME:PORT --ca FILE --token-file FILE"


def test_another_server_than_that_of_the_enrolment_is_told(examine, enrolled):
    found = examine("enrolment", with_settings=enrolled(server="https://elsewhere.example:8443"))
    assert (found.state, "EGUARD_SERVER=https://elsewhere.example:8443 names another" in found.cause) == (
        "warning",
        True,
    )


def test_a_damaged_enrolment_is_told_and_stops_no_other_check(examine, enrolled):
    here = enrolled()
    (here.tls_folder / "enrolment.json").write_text("{")
    found = examine("enrolment", with_settings=here)
    assert (found.state, "enrolment.json cannot be read" in found.cause) == ("failed", True)
    assert examine("clock", with_settings=here).state == "ok"


def test_an_enrolment_that_is_closed_to_this_user_says_nothing_of_the_agent(examine, enrolled, monkeypatch):
    here = enrolled()

    def closed(_settings):
        raise PermissionError(13, "Permission denied", str(here.tls_folder))

    monkeypatch.setattr("eguard.agent.control.enrolment_files.with_enrolment", closed)
    for name in ("enrolment", "transport", "server_name", "policy", "baseline_upload"):
        found = examine(name, with_settings=here)
        assert (found.state, "sudo eguard doctor" in found.cause) == ("skipped", True), found


@pytest.mark.parametrize("code", sorted(REFUSED))
def test_every_refusal_has_its_cause_and_its_remedy(code):
    found = judge_refusal(ServerRefusalError(403, code, "no"), "agent-7")
    assert (found.state, f"(403 {code}): no" in found.cause) == ("failed", True)
    assert found.remedy
    assert "{" not in found.remedy


def test_a_refusal_that_nobody_knows_is_told_as_it_is():
    found = judge_refusal(ServerRefusalError(418, "teapot", "short and stout"), "agent-7")
    assert "418 teapot" in found.cause
    assert found.remedy == "See the server's log."

"""Certificates: what was issued, and how fast a revocation counts."""

import pytest
import sqlalchemy as sa

from eguard.errors import ServerRefusalError
from eguard.fleet.tables import endpoint_agent
from eguard.server.pki.authority import IssuedCertificate
from eguard.server.services.audit import Audit
from eguard.server.services.believed import BELIEVED_SECONDS
from eguard.server.services.certificates import MAX_LIVE, Certificates, record_issued, revoke_all

DAY = 86_400.0


@pytest.fixture
def certificates(fleet_database, fleet_clock):
    return Certificates(fleet_database, fleet_clock)


@pytest.fixture
def issue(fleet_database, fleet_clock):
    def make(serial, agent_id="web-7", days=90):
        now = fleet_clock.now()
        issued = IssuedCertificate("", serial, "f" * 64, now, now + days * DAY)
        with fleet_database.write() as connection:
            record_issued(connection, issued, agent_id, "agent", now)

    return make


def test_only_what_was_written_down_counts(certificates, issue):
    issue("ab")
    assert certificates.state_of("ab") == "ok"
    assert certificates.state_of("abc") == "unknown"
    assert certificates.state_of("AB") == "unknown"


def test_a_revocation_counts_at_once_here_and_within_five_seconds_on_another_server(
    fleet_database, fleet_clock, certificates, issue, ada
):
    elsewhere = Certificates(fleet_database, fleet_clock)
    issue("ab")
    assert elsewhere.state_of("ab") == certificates.state_of("ab") == "ok"
    assert certificates.revoke(ada, serial="ab", reason="stolen") == ["ab"]
    assert certificates.cached_state("ab") is None
    assert certificates.state_of("ab") == "revoked"
    assert elsewhere.state_of("ab") == "ok"
    fleet_clock.advance_to(fleet_clock.now() + BELIEVED_SECONDS)
    assert elsewhere.cached_state("ab") is None
    assert elsewhere.state_of("ab") == "revoked"


def test_refusals_are_never_remembered(certificates, issue):
    assert certificates.state_of("ab") == "unknown"
    issue("ab")
    assert certificates.state_of("ab") == "ok"


def test_a_certificate_ends_on_its_day(certificates, issue, fleet_clock):
    issue("ab", days=1)
    fleet_clock.advance_to(fleet_clock.now() + DAY)
    assert certificates.state_of("ab") == "expired"


def test_a_decommissioned_agents_certificates_do_not_count(fleet_database, fleet_clock, certificates, issue):
    issue("ab")
    with fleet_database.write() as connection:
        connection.execute(
            sa.insert(endpoint_agent).values(
                agent_id="web-7",
                incarnation="i",
                incarnation_ordinal=1,
                group="default",
                status="decommissioned",
                enrolled_at=fleet_clock.now(),
            )
        )
    assert certificates.state_of("ab") == "decommissioned"


def test_an_agents_certificates_are_revoked_together_and_put_on_record_once(
    fleet_database, fleet_clock, certificates, issue, ada
):
    issue("b1")
    issue("a1")
    issue("c1", agent_id="web-8")
    assert certificates.revoke(ada, agent_id="web-7", reason="retired") == ["a1", "b1"]
    assert [certificates.state_of(serial) for serial in ("a1", "b1", "c1")] == ["revoked", "revoked", "ok"]
    (record,) = Audit(fleet_database, fleet_clock).search().records
    assert (record.action, record.object_id, record.principal) == ("certificate.revoke", "web-7", "ada")
    assert record.detail == {"serials": ["a1", "b1"], "reason": "retired"}


@pytest.mark.parametrize("who", [{"serial": "zz"}, {"agent_id": "nobody"}, {"serial": "ab"}])
def test_nothing_to_revoke_is_said_and_leaves_no_record(fleet_database, fleet_clock, certificates, issue, ada, who):
    issue("ab")
    certificates.revoke(ada, serial="ab", reason="")
    with pytest.raises(ServerRefusalError) as caught:
        certificates.revoke(ada, **who, reason="")
    assert (caught.value.status, caught.value.reason) == (404, "unknown_certificate")
    assert len(Audit(fleet_database, fleet_clock).search().records) == 1


def test_an_agent_has_so_many_certificates_and_no_more(fleet_database, fleet_clock, issue):
    for number in range(MAX_LIVE):
        issue(f"a{number}")
    with pytest.raises(ServerRefusalError) as caught:
        issue("b")
    assert caught.value.reason == "too_many_certificates"
    issue("b", agent_id="web-8")
    with fleet_database.write() as connection:
        assert len(revoke_all(connection, "web-7", "", fleet_clock.now())) == MAX_LIVE
    issue("b9")


def test_the_list_is_the_latest_first(certificates, issue, fleet_clock):
    issue("a1")
    fleet_clock.advance_to(fleet_clock.now() + 1)
    issue("b1", agent_id="web-8")
    assert [row["serial"] for row in certificates.list()] == ["b1", "a1"]
    assert [row["serial"] for row in certificates.list("web-7")] == ["a1"]

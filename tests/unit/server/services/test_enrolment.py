"""Enrolment: one use lets one machine in, whoever comes at the same moment, on both databases."""

import threading
from collections import Counter

import pytest
import sqlalchemy as sa
from cryptography import x509

from eguard.errors import EguardError, FleetStoreError, ServerRefusalError
from eguard.fleet.tables import endpoint_agent, endpoint_certificate, endpoint_incarnation, enrollment_token
from eguard.server.pki import facts_of, make_key_and_request
from eguard.server.principal import Principal, Role
from eguard.server.services.audit import Audit
from eguard.server.services.certificates import Certificates, revoke_all
from eguard.server.services.enrolment import Enrolment
from eguard.wire.control import EnrolmentRequest, PolicyKey, RenewalRequest

DAY = 86_400.0
KEYS = (PolicyKey(key_id="k1", public_key="00" * 32),)


@pytest.fixture
def enrolment(fleet_database, fleet_clock, authority):
    return Enrolment(
        fleet_database,
        fleet_clock,
        authority=lambda: authority,
        trust_pem=lambda: "TRUST",
        policy_keys=lambda: KEYS,
        bundle_root=lambda: "ROOT",
    )


@pytest.fixture
def audit(fleet_database, fleet_clock):
    return Audit(fleet_database, fleet_clock)


def request(token, agent_id="web-7", incarnation="i1", csr_of=None):
    _, csr = make_key_and_request(csr_of or agent_id)
    return EnrolmentRequest(token=token, agent_id=agent_id, csr_pem=csr, incarnation=incarnation, hostname="web-7")


def refusal(call, *args, **named):
    with pytest.raises(ServerRefusalError) as caught:
        call(*args, **named)
    return caught.value.status, caught.value.reason


def serial_of(answer):
    return facts_of(x509.load_pem_x509_certificate(answer.certificate_pem.encode())).serial_hex


def rows(database, table):
    with database.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def test_a_machine_becomes_an_agent(fleet_database, fleet_clock, enrolment, audit, ada):
    token = enrolment.tokens.create(ada, group="web")
    answer = enrolment.enrol(request(token.secret), "192.0.2.50")
    facts = facts_of(x509.load_pem_x509_certificate(answer.certificate_pem.encode()))
    assert (answer.agent_id, facts.agent_id) == ("web-7", "web-7")
    assert (answer.authority_pem, answer.policy_keys, answer.bundle_root) == ("TRUST", KEYS, "ROOT")
    assert Certificates(fleet_database, fleet_clock).state_of(facts.serial_hex) == "ok"
    (agent,) = rows(fleet_database, endpoint_agent)
    assert (agent["group"], agent["status"], agent["enrolled_with"]) == ("web", "active", token.token_id)
    record = audit.search().records[0]
    assert (record.action, record.principal, record.role) == ("endpoint.enroll", "web-7", "agent")
    assert (record.address, record.credential) == ("192.0.2.50", token.token_id)
    assert audit.verify().intact


def test_fifty_machines_at_once_bring_one_use_and_one_gets_in(fleet_database, enrolment, ada):
    token = enrolment.tokens.create(ada, max_uses=1)
    requests = [request(token.secret, f"web-{number}") for number in range(50)]
    outcomes = Counter()
    barrier = threading.Barrier(50)

    def bring(asked):
        barrier.wait()
        try:
            enrolment.enrol(asked)
        except ServerRefusalError as error:
            outcomes[error.reason] += 1
        except EguardError as error:
            outcomes[repr(error)] += 1
        else:
            outcomes["let in"] += 1

    threads = [threading.Thread(target=bring, args=(asked,)) for asked in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {"let in": 1, "token_used_up": 49}
    assert len(rows(fleet_database, endpoint_agent)) == len(rows(fleet_database, endpoint_certificate)) == 1
    assert rows(fleet_database, enrollment_token)[0]["uses"] == 1


def test_two_machines_with_one_name_at_once_are_not_both_let_in(fleet_database, enrolment, ada):
    token = enrolment.tokens.create(ada, max_uses=10)
    requests = [request(token.secret, incarnation=f"i{number}") for number in range(6)]
    outcomes = Counter()
    barrier = threading.Barrier(6)

    def bring(asked):
        barrier.wait()
        try:
            enrolment.enrol(asked)
        except ServerRefusalError as error:
            outcomes[error.reason] += 1
        else:
            outcomes["let in"] += 1

    threads = [threading.Thread(target=bring, args=(asked,)) for asked in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {"let in": 1, "already_enrolled": 5}
    assert rows(fleet_database, enrollment_token)[0]["uses"] == 1
    assert len(rows(fleet_database, endpoint_certificate)) == 1


def test_a_token_lets_in_as_many_as_it_was_made_for(fleet_database, enrolment, ada):
    token = enrolment.tokens.create(ada, max_uses=2)
    enrolment.enrol(request(token.secret, "a"))
    enrolment.enrol(request(token.secret, "b"))
    assert refusal(enrolment.enrol, request(token.secret, "c")) == (403, "token_used_up")


def test_each_fault_of_a_token_has_its_code(enrolment, fleet_clock, ada):
    revoked = enrolment.tokens.create(ada)
    enrolment.tokens.revoke(ada, revoked.token_id)
    expiring = enrolment.tokens.create(ada, days=1)
    assert refusal(enrolment.enrol, request(revoked.secret)) == (403, "token_revoked")
    fleet_clock.advance_to(fleet_clock.now() + DAY)
    assert refusal(enrolment.enrol, request(expiring.secret)) == (403, "token_expired")
    assert refusal(enrolment.tokens.revoke, ada, revoked.token_id) == (404, "unknown_token")


def test_whoever_does_not_know_the_secret_learns_nothing_and_leaves_no_record(enrolment, audit, ada):
    used = enrolment.tokens.create(ada)
    enrolment.enrol(request(used.secret))
    before = audit.verify().records
    guessed = used.secret[:-1] + ("A" if used.secret[-1] != "A" else "B")
    for wrong in ("x", guessed, used.token_id, used.secret.upper(), used.secret + " ", "eguard-enrol-" + "0" * 60):
        assert refusal(enrolment.enrol, request(wrong, "b")) == (403, "token_invalid")
    assert audit.verify().records == before


def test_an_access_token_enrols_nobody(enrolment, ada):
    token = enrolment.tokens.create(ada)
    assert refusal(enrolment.enrol, request(token.secret.replace("-enrol-", "-access-"))) == (403, "token_invalid")


def test_a_machine_that_asks_for_anothers_name_is_refused_and_put_on_record(fleet_database, enrolment, audit, ada):
    token = enrolment.tokens.create(ada)
    asked = request(token.secret, "web-7", csr_of="domain-controller")
    assert refusal(enrolment.enrol, asked, "192.0.2.66") == (422, "csr_name")
    assert rows(fleet_database, endpoint_certificate) == []
    assert rows(fleet_database, enrollment_token)[0]["uses"] == 0
    record = audit.search().records[0]
    assert (record.action, record.detail, record.address) == (
        "endpoint.enroll_refused",
        {"code": "csr_name"},
        "192.0.2.66",
    )


def test_a_name_that_is_taken_is_refused_and_the_use_is_kept(fleet_database, enrolment, ada):
    token = enrolment.tokens.create(ada, max_uses=5)
    enrolment.enrol(request(token.secret))
    assert refusal(enrolment.enrol, request(token.secret, incarnation="i2")) == (409, "already_enrolled")
    assert rows(fleet_database, enrollment_token)[0]["uses"] == 1


def test_a_name_for_which_somebody_holds_a_certificate_is_taken(enrolment, ada):
    _, csr = make_key_and_request("web-7")
    enrolment.issue(ada, "web-7", csr)
    token = enrolment.tokens.create(ada)
    assert refusal(enrolment.enrol, request(token.secret)) == (409, "already_enrolled")
    assert refusal(enrolment.issue, ada, "web-7", csr) == (409, "already_enrolled")


def test_a_decommissioned_agent_is_let_in_again_as_a_new_one(fleet_database, fleet_clock, enrolment, ada):
    token = enrolment.tokens.create(ada, group="web", max_uses=2)
    enrolment.enrol(request(token.secret, incarnation="i1"))
    with fleet_database.write() as connection:
        connection.execute(
            sa.update(endpoint_agent).values(
                status="decommissioned",
                incarnation_ordinal=4,
                incarnation="i4",
                group="old",
                cloned_at=1.0,
                heard_hours=400,
                heard_hour=1,
            )
        )
        revoke_all(connection, "web-7", "", fleet_clock.now())
    fleet_clock.advance_to(fleet_clock.now() + 10)
    enrolment.enrol(request(token.secret, incarnation="i1"))
    (agent,) = rows(fleet_database, endpoint_agent)
    assert (agent["status"], agent["group"], agent["enrolled_at"]) == ("active", "web", fleet_clock.now())
    assert (agent["incarnation"], agent["incarnation_ordinal"], agent["cloned_at"]) == ("i1", 5, None)
    assert (agent["heard_hours"], agent["heard_hour"]) == (0, None)  # its votes count as a new agent's do
    assert agent["group_revision"] > 0
    (incarnation,) = rows(fleet_database, endpoint_incarnation)
    assert (incarnation["incarnation"], incarnation["ordinal"]) == ("i1", 5)


def test_renewal_gives_a_second_certificate_and_keeps_the_first(fleet_database, fleet_clock, enrolment, audit, ada):
    token = enrolment.tokens.create(ada)
    first = enrolment.enrol(request(token.secret))
    agent = Principal("web-7", Role.AGENT, credential=serial_of(first))
    _, csr = make_key_and_request("web-7")
    second = enrolment.renew(agent, RenewalRequest(csr_pem=csr))
    certificates = Certificates(fleet_database, fleet_clock)
    serials = [serial_of(answer) for answer in (first, second)]
    assert serials[0] != serials[1]
    assert [certificates.state_of(serial) for serial in serials] == ["ok", "ok"]
    assert audit.search().records[0].action == "endpoint.renew"
    _, forged = make_key_and_request("web-8")
    assert refusal(enrolment.renew, agent, RenewalRequest(csr_pem=forged)) == (422, "csr_name")


@pytest.mark.parametrize("fate", ["revoked", "decommissioned", "unknown"])
def test_a_certificate_that_ended_a_moment_ago_is_not_renewed(fleet_database, fleet_clock, enrolment, ada, fate):
    """What another server still believes must not become a new certificate that nobody revokes."""
    token = enrolment.tokens.create(ada)
    first = enrolment.enrol(request(token.secret))
    if fate == "revoked":
        Certificates(fleet_database, fleet_clock).revoke(ada, agent_id="web-7", reason="stolen")
    with fleet_database.write() as connection:
        if fate == "decommissioned":
            connection.execute(sa.update(endpoint_agent).values(status="decommissioned"))
        elif fate == "unknown":
            connection.execute(sa.delete(endpoint_certificate))
    agent = Principal("web-7", Role.AGENT, credential=serial_of(first))
    _, csr = make_key_and_request("web-7")
    assert refusal(enrolment.renew, agent, RenewalRequest(csr_pem=csr)) == (403, f"certificate_{fate}")
    assert len(rows(fleet_database, endpoint_certificate)) == (0 if fate == "unknown" else 1)


def test_without_an_audit_log_nobody_gets_in(fleet_database, enrolment, ada):
    token = enrolment.tokens.create(ada)
    with fleet_database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_log RENAME TO audit_log_gone")
    try:
        with pytest.raises(FleetStoreError):
            enrolment.enrol(request(token.secret))
        with pytest.raises(FleetStoreError):
            enrolment.tokens.create(ada)
    finally:
        with fleet_database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_log_gone RENAME TO audit_log")
    assert rows(fleet_database, endpoint_agent) == rows(fleet_database, endpoint_certificate) == []
    (row,) = rows(fleet_database, enrollment_token)
    assert row["uses"] == 0


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("group", {"group": ""}),
        ("group", {"group": "a\nb"}),
        ("max_uses", {"max_uses": 0}),
        ("days", {"days": 0}),
        ("days", {"days": float("nan")}),
        ("note", {"note": "x" * 256}),
    ],
)
def test_a_token_out_of_bounds_is_not_made(fleet_database, enrolment, ada, field, values):
    with pytest.raises(ServerRefusalError) as caught:
        enrolment.tokens.create(ada, **values)
    assert caught.value.errors[0][0] == field
    assert rows(fleet_database, enrollment_token) == []


def test_a_tokens_secret_is_in_no_list_and_no_representation(enrolment, ada):
    token = enrolment.tokens.create(ada, note="ward 3")
    assert token.secret not in repr(token)
    (listed,) = enrolment.tokens.list()
    assert listed["token_id"] == token.token_id
    assert "token_hash" not in listed
    assert token.secret not in str(listed)

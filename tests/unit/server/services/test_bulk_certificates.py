"""Certificates by the hundred: each written down, one audit record for all, all or none."""

import hashlib
import time

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec

from eguard.clock import SimulatedClock
from eguard.errors import ServerRefusalError
from eguard.fleet.tables import endpoint_certificate
from eguard.server.pki.authority import Authority
from eguard.server.principal import Principal, Role
from eguard.server.services.audit import Audit
from eguard.server.services.bulk_certificates import GROUP, BulkCertificates
from eguard.server.services.certificates import Certificates, revoke_all

CONSOLE = Principal("console", Role.ADMIN)


@pytest.fixture(scope="module")
def authority():
    return Authority.create(time.time())[0]


@pytest.fixture
def clock():
    return SimulatedClock(time.time())


@pytest.fixture
def bulk(fleet, clock, authority):
    return BulkCertificates(fleet, clock, lambda: authority)


def keys(names):
    return [(name, ec.generate_private_key(ec.SECP256R1()).public_key()) for name in names]


def stored(fleet):
    columns = endpoint_certificate.c
    with fleet.read() as connection:
        query = sa.select(columns.agent_id, columns.serial).order_by(columns.agent_id)
        return [tuple(row) for row in connection.execute(query)]


def test_every_name_gets_its_certificate_and_each_counts(fleet, clock, bulk):
    names = ["b3", "b1", "b2"]
    issued = bulk.issue(CONSOLE, keys(names))
    assert stored(fleet) == sorted((name, each.serial) for name, each in zip(names, issued, strict=True))
    certificates = Certificates(fleet, clock)
    assert {certificates.state_of(each.serial) for each in issued} == {"ok"}


def test_one_audit_record_says_how_many_and_which(fleet, clock, bulk):
    issued = bulk.issue(CONSOLE, keys(["b3", "b1", "b2"]))
    (record,) = Audit(fleet, clock).search(action="certificate.issue_many").records
    digest = hashlib.sha256("\n".join(sorted(each.serial for each in issued)).encode()).hexdigest()
    assert (record.principal, record.object_type, record.object_id) == ("console", "agent", "b1")
    assert record.detail == {"certificates": 3, "last": "b3", "serials_sha256": digest}
    assert Audit(fleet, clock).verify().intact


def test_a_name_that_is_taken_refuses_all(fleet, clock, bulk):
    with pytest.raises(ServerRefusalError) as caught:
        bulk.issue(CONSOLE, keys(["b1", "a2"]))
    assert (caught.value.status, caught.value.reason) == (409, "already_enrolled")
    bulk.issue(CONSOLE, keys(["b1"]))
    with pytest.raises(ServerRefusalError):
        bulk.issue(CONSOLE, keys(["b0", "b1"]))
    assert [name for name, _ in stored(fleet)] == ["b1"]
    with fleet.write() as connection:
        revoke_all(connection, "b1", "", clock.now())
    assert bulk.issue(CONSOLE, keys(["b0", "b1"]))


@pytest.mark.parametrize(
    ("names", "code"), [(["b1", "b1"], "name_twice"), ([f"b{n}" for n in range(GROUP + 1)], "too_many_certificates")],
    ids=["twice", "too many"],
)  # fmt: skip
def test_lists_that_cannot_be_are_refused(fleet, bulk, authority, names, code):
    key = authority.certificate.public_key()
    with pytest.raises(ServerRefusalError) as caught:
        bulk.issue(CONSOLE, [(name, key) for name in names])
    assert caught.value.reason == code
    assert not stored(fleet)


def test_no_name_is_no_record(fleet, clock, bulk):
    assert bulk.issue(CONSOLE, []) == []
    assert not Audit(fleet, clock).search().records

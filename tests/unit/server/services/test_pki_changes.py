"""Changes of the authority, on record; refused where there is no record."""

import pytest

from eguard.errors import ConfigError, FleetStoreError, ServerRefusalError
from eguard.server.pki import PkiFolder, make_key_and_request
from eguard.server.services.audit import Audit
from eguard.server.services.enrolment import Enrolment
from eguard.server.services.pki_changes import PkiChanges

DAY = 86_400.0


@pytest.fixture
def folder(tmp_path):
    return PkiFolder(tmp_path / "pki")


@pytest.fixture
def changes(fleet_database, fleet_clock, folder):
    return PkiChanges(fleet_database, fleet_clock, folder)


@pytest.fixture
def issue(fleet_database, fleet_clock, folder, ada):
    enrolment = Enrolment(fleet_database, fleet_clock, authority=folder.authority, trust_pem=folder.trust_pem)

    def make(agent_id):
        return enrolment.issue(ada, agent_id, make_key_and_request(agent_id)[1])

    return make


def test_every_change_is_on_record_with_what_it_was(fleet_database, fleet_clock, changes, folder, ada):
    changes.create(ada, ["localhost"])
    changes.renew_server(ada)
    changes.renew_server(ada, ["eguard.example"])
    first = format(folder.authority().certificate.serial_number, "x")
    changes.succeed(ada)
    assert changes.retire(ada) == [first]
    records = Audit(fleet_database, fleet_clock).search().records[::-1]
    assert [(record.action, record.detail) for record in records] == [
        ("pki.init", {"names": ["localhost"]}),
        ("pki.renew_server", {"names": ["localhost"]}),
        ("pki.renew_server", {"names": ["eguard.example"]}),
        ("pki.succeed", {"predecessor": first}),
        ("pki.retire", {"retired": [first], "certificates_ended": 0}),
    ]
    assert folder.server_names() == ["eguard.example"]


def test_an_authority_in_use_is_retired_by_force_alone(fleet_clock, changes, issue, ada):
    changes.create(ada, ["localhost"])
    issue("old")
    with pytest.raises(ServerRefusalError) as caught:
        changes.retire(ada)
    assert caught.value.reason == "nothing_to_retire"
    fleet_clock.advance_to(fleet_clock.now() + 10 * DAY)
    changes.succeed(ada)
    issue("new")
    assert changes.certificates_of_earlier() == 1
    with pytest.raises(ServerRefusalError) as caught:
        changes.retire(ada)
    assert caught.value.reason == "authority_in_use"
    fleet_clock.advance_to(fleet_clock.now() + 81 * DAY)
    assert changes.certificates_of_earlier() == 0  # the old one's has expired
    assert len(changes.retire(ada)) == 1


def test_force_ends_the_certificates_of_the_old_authority(fleet_clock, changes, issue, ada):
    changes.create(ada, ["localhost"])
    issue("old")
    fleet_clock.advance_to(fleet_clock.now() + DAY)
    changes.succeed(ada)
    changes.retire(ada, is_forced=True)
    assert changes.earlier() == []


def test_without_an_audit_log_no_file_is_touched(fleet_database, changes, folder, ada):
    with fleet_database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_log RENAME TO audit_log_gone")
    try:
        with pytest.raises(FleetStoreError):
            changes.create(ada, ["localhost"])
    finally:
        with fleet_database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_log_gone RENAME TO audit_log")
    assert not folder.path.exists()


def test_a_change_that_fails_leaves_no_record(fleet_database, fleet_clock, changes, ada):
    for call in (
        lambda: changes.create(ada, ["a..b"]),
        lambda: changes.succeed(ada),
        lambda: changes.renew_server(ada),
    ):
        with pytest.raises(ConfigError):
            call()
    assert Audit(fleet_database, fleet_clock).search().records == []

"""Signing keys: private files, a week of overlap, and agents that follow the whole way."""

import stat

import pytest
import sqlalchemy as sa

from eguard.errors import ConfigError, PolicyError, ServerRefusalError
from eguard.fleet.tables import audit_log, endpoint_agent
from eguard.policy import open_policy
from eguard.server.services.policy_assembly import open_policies
from eguard.server.services.policy_keys import OVERLAP_SECONDS

#: What depends on how a database locks, compares or orders.
ON_BOTH = pytest.mark.parametrize("one_database", ["sqlite", "mariadb"], indirect=True)
AGENT = "agent-1"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def services(one_database, fleet_clock, folder):
    with one_database.write() as connection:
        row = {"incarnation": "i", "incarnation_ordinal": 1, "group": "", "status": "active", "enrolled_at": 0.0}
        connection.execute(sa.insert(endpoint_agent), [row | {"agent_id": AGENT}])
    return open_policies(one_database, fleet_clock, folder)


class Agent:
    """Trusts what it was told last, as an agent does."""

    def __init__(self, services):
        self._services = services
        self.trusted = {key.key_id: key.public_key for key in services.keys.trusted()}
        self.revision = 0

    def fetch(self):
        signed = self._services.policies.signed_for(AGENT)
        payload = open_policy(signed, self.trusted, agent_id=AGENT, minimum_revision=self.revision)
        self.trusted = {key.key_id: key.public_key for key in payload.policy_keys}
        self.revision = payload.revision
        return signed.key_id


def test_private_keys_are_readable_for_the_server_alone(services, folder):
    services.keys.ensure()
    (path,) = folder.iterdir()
    assert path.name == f"policy-{services.keys.trusted()[0].key_id}.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_starting_again_keeps_the_key(services, one_database, fleet_clock, folder):
    again = open_policies(one_database, fleet_clock, folder)
    assert again.keys.trusted() == services.keys.trusted()
    assert len(list(folder.iterdir())) == 1


@ON_BOTH
def test_an_agent_follows_a_rotation_to_its_end(services, fleet_clock, folder, ada):
    agent = Agent(services)
    old = agent.fetch()
    revision = agent.revision
    new = services.keys.rotate(ada).key_id
    assert services.policies.revision_for(AGENT) > revision  # everybody is told
    assert agent.fetch() == old
    assert set(agent.trusted) == {old, new}
    fleet_clock.advance_to(fleet_clock.now() + OVERLAP_SECONDS - 1.0)
    assert agent.fetch() == old
    fleet_clock.advance_to(fleet_clock.now() + 1.0)
    assert agent.fetch() == new
    assert set(agent.trusted) == {new}
    assert len(list(folder.iterdir())) == 2


def test_an_agent_that_missed_the_overlap_refuses_the_new_key(services, fleet_clock, ada):
    agent = Agent(services)
    agent.fetch()
    services.keys.rotate(ada)
    fleet_clock.advance_to(fleet_clock.now() + OVERLAP_SECONDS)
    with pytest.raises(PolicyError) as refused:
        agent.fetch()
    assert refused.value.context["reason"] == "unknown_key"


def test_a_second_rotation_waits_for_the_first_and_leaves_no_file(services, fleet_clock, folder, ada):
    services.keys.rotate(ada)
    with pytest.raises(ServerRefusalError, match="announced already"):
        services.keys.rotate(ada)
    assert len(list(folder.iterdir())) == 2
    fleet_clock.advance_to(fleet_clock.now() + OVERLAP_SECONDS)
    services.keys.rotate(ada)
    assert len(list(folder.iterdir())) == 3


def test_making_and_rotating_are_on_record_without_the_key(services, one_database, folder, ada):
    services.keys.rotate(ada, "yearly")
    with one_database.read() as connection:
        wanted = sa.select(audit_log.c.action, audit_log.c.principal, audit_log.c.detail).order_by(audit_log.c.sequence)
        rows = connection.execute(wanted).all()
    assert [(row.action, row.principal) for row in rows] == [
        ("policy_key.create", "system"),
        ("policy_key.rotate", "ada"),
    ]
    for path in folder.iterdir():
        secret = path.read_text().splitlines()[1]
        assert secret not in str(rows)


@pytest.mark.parametrize("damage", ["gone", "garbled", "another"])
def test_a_key_file_that_is_not_what_it_was_is_refused_by_name(
    services, one_database, fleet_clock, folder, damage, tmp_path
):
    (path,) = folder.iterdir()
    if damage == "gone":
        path.unlink()
    elif damage == "garbled":
        path.write_text("-----BEGIN PRIVATE KEY-----\n")
    else:
        other = tmp_path / "other"
        services.keys._folder = other
        other.mkdir()
        _, made = services.keys._make_file()
        path.write_bytes((other / f"policy-{made.key_id}.pem").read_bytes())
    with pytest.raises(ConfigError, match=path.name):
        open_policies(one_database, fleet_clock, folder)

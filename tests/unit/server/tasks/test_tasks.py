"""What each maintenance task does when it runs."""

from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from eguard.bundle.keys import generate_keys
from eguard.bundle.repository import Repository
from eguard.clock import SimulatedClock
from eguard.errors import BundleError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, endpoint_command, metadata, user_account, user_session
from eguard.server.principal import SYSTEM
from eguard.server.tasks import TASKS
from eguard.server.tasks.fleet_aggregate import aggregate_fleet
from eguard.server.tasks.session_cleanup import clean_up
from eguard.server.tasks.tuf_refresh import refresh_bundles

NOW = 1_772_000_000.0


def no_progress(_label, _done, _total):
    """Take the steps in and go on."""


def test_names_are_told_apart():
    assert len({task.task_id for task in TASKS}) == len(TASKS)


def test_aggregation_runs_in_the_servers_name_and_is_counted():
    report = SimpleNamespace(to_dict=lambda: {"generation": 7})
    asked, counted = [], []

    def aggregate(principal, progress):
        asked.append((principal, progress))
        return report

    context = SimpleNamespace(
        fleet=SimpleNamespace(aggregate=aggregate), metrics=SimpleNamespace(count_aggregation=counted.append)
    )
    assert aggregate_fleet(context, no_progress) == {"generation": 7}
    assert asked == [(SYSTEM, no_progress)]
    assert counted == [report]


def test_ended_sessions_go_and_commands_that_nobody_fetched_expire(database_url):
    database = Database(database_url)
    with database.write() as connection:
        metadata.create_all(connection)
        connection.execute(
            sa.insert(user_account).values(name="ada", role="admin", password_hash="x", failures=0, created_at=NOW)
        )
        session = {"name": "ada", "csrf_token": "c", "created_at": NOW, "last_used_at": NOW}
        for number, expires_at in enumerate((NOW - 1.0, NOW, NOW + 1.0)):
            connection.execute(
                sa.insert(user_session).values(session_hash=f"s{number}", expires_at=expires_at, **session)
            )
        agent = {"incarnation": "i", "incarnation_ordinal": 1, "group": "", "status": "active", "enrolled_at": NOW}
        connection.execute(sa.insert(endpoint_agent).values(agent_id="a1", **agent))
        command = {"agent_id": "a1", "kind": "allow", "arguments": {}, "reason": "", "created_by": "ada"}
        for number, expires_at in enumerate((NOW, NOW + 1.0)):
            connection.execute(
                sa.insert(endpoint_command).values(
                    command_id=f"c{number}", status="pending", created_at=NOW, expires_at=expires_at, **command
                )
            )
    context = SimpleNamespace(database=database, clock=SimulatedClock(NOW))
    assert clean_up(context, no_progress) == {"sessions_removed": 2, "commands_expired": 1}
    with database.read() as connection:
        assert connection.execute(sa.select(user_session.c.session_hash)).scalars().all() == ["s2"]
    assert clean_up(context, no_progress) == {"sessions_removed": 0, "commands_expired": 0}
    database.dispose()


@pytest.fixture
def bundles(tmp_path):
    settings = SimpleNamespace(repository=tmp_path / "repository", server_state_path=tmp_path)
    return SimpleNamespace(settings=settings, clock=SimulatedClock(NOW))


def test_without_a_repository_there_is_nothing_to_sign(bundles):
    assert "no bundle repository" in refresh_bundles(bundles, no_progress)["skipped"]


def test_the_repository_is_signed_anew_with_the_servers_keys(bundles, tmp_path):
    signers = generate_keys(tmp_path / "keys")
    repository = Repository(tmp_path / "repository", signers)
    repository.publish({"rules.json": b"[]", "models/m.json": b"{}"})
    before = repository.versions()
    detail = refresh_bundles(bundles, no_progress)
    assert detail["versions"]["timestamp"] == before["timestamp"] + 1
    assert detail["expires"].startswith("2026-02-27")
    (tmp_path / "keys" / "snapshot-1.pem").unlink()
    with pytest.raises(BundleError):
        refresh_bundles(bundles, no_progress)

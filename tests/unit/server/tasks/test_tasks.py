"""What each maintenance task does when it runs."""

from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from eguard.bundle.keys import generate_keys
from eguard.bundle.repository import Repository
from eguard.clock import SimulatedClock
from eguard.errors import BundleError
from eguard.fleet.database import Database
from eguard.fleet.store import FleetStore
from eguard.fleet.tables import (
    endpoint_agent,
    endpoint_command,
    endpoint_event,
    metadata,
    user_account,
    user_session,
)
from eguard.server.principal import SYSTEM
from eguard.server.services.audit import Audit, record
from eguard.server.tasks import TASKS
from eguard.server.tasks.fleet_aggregate import aggregate_fleet
from eguard.server.tasks.retention import remove_what_is_old
from eguard.server.tasks.session_cleanup import clean_up
from eguard.server.tasks.tuf_refresh import refresh_bundles
from eguard.settings import ServerSettings

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


def test_retention_keeps_each_kind_as_long_as_its_setting_says(tmp_path):
    settings = ServerSettings(server_state_path=tmp_path, retention_events_days=10, retention_alerts_days=20)
    with FleetStore.create(settings.fleet_url) as store:
        event = {"agent_id": "a1", "event_class": "dns_query", "process_key": "a:b", "rule_id": "r", "detail": {}}
        with store.database.write() as connection:
            for severity in ("low", "high"):
                for days in (5, 15, 25):
                    at = NOW - days * 86_400.0
                    times = {"observed_at": at, "received_at": at}
                    connection.execute(
                        sa.insert(endpoint_event).values(
                            event_id=f"{severity}-{days}", severity=severity, search_text="", **times, **event
                        )
                    )
            for day in (500, 401, 1):
                record(
                    connection,
                    SYSTEM,
                    action="policy.create",
                    object_type="policy",
                    object_id=f"p{day}",
                    detail={},
                    now=NOW - day * 86_400.0,
                )
        clock = SimulatedClock(NOW)
        context = SimpleNamespace(
            settings=settings, clock=clock, database=store.database, audit=Audit(store.database, clock)
        )
        removed = remove_what_is_old(context, no_progress)["removed"]
        assert (removed["events"], removed["alerts"], removed["audit"]) == (2, 1, 2)
        with store.database.read() as connection:
            kept = connection.execute(sa.select(endpoint_event.c.event_id)).scalars().all()
        assert sorted(kept) == ["high-15", "high-5", "low-5"]
        assert context.audit.verify().intact


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

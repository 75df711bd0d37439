"""The command queue: fetched until acknowledged, one of a kind, void after a day."""

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import ServerRefusalError
from eguard.fleet.tables import audit_log, endpoint_agent
from eguard.server.principal import Principal, Role
from eguard.server.services.commands import CommandRequest, Commands, expire_commands, pending_counts
from eguard.wire.control import CommandAcknowledgement

NOW = 1_772_000_000.0
ADMIN = Principal("ada", Role.ADMIN)


@pytest.fixture
def clock():
    return SimulatedClock(NOW)


@pytest.fixture
def commands(fleet, clock):
    return Commands(fleet, clock)


def ask(agent_id="a1", reason="beacon to a known server"):
    return CommandRequest(agent_id=agent_id, reason=reason)


def done(command_id, status="done", detail=""):
    return CommandAcknowledgement(command_id=command_id, status=status, detail=detail)


def ids(commands, agent_id="a1"):
    return [command.command_id for command in commands.pending(agent_id).commands]


def test_a_command_is_given_at_every_request_until_it_is_acknowledged(fleet, commands, clock):
    queued = commands.queue(ADMIN, "isolate", ask())
    assert queued["status"] == "pending"
    with fleet.read() as connection:
        assert pending_counts(connection, ["a1"], NOW) == {"a1": 1}
    assert ids(commands) == ids(commands) == [queued["command_id"]]
    (given,) = commands.pending("a1").commands
    assert (given.kind, given.reason, given.expires_at_unix) == ("isolate", "beacon to a known server", NOW + 86_400.0)
    assert commands.status("a1")[0]["commands"][0]["status"] == "delivered"
    clock.advance_to(NOW + 9.0)
    said = commands.acknowledge("a1", done(queued["command_id"], detail="table loaded"))
    assert (said["status"], said["result"]["detail"], said["finished_at_unix"]) == ("done", "table loaded", NOW + 9.0)
    assert ids(commands) == []
    assert commands.status("a1")[0]["state"] == "isolated"


def test_commands_come_oldest_first(commands, clock):
    first = commands.queue(ADMIN, "isolate", ask())
    clock.advance_to(NOW + 1.0)
    second = commands.queue(ADMIN, "allow", ask())
    assert ids(commands) == [first["command_id"], second["command_id"]]


def test_a_newer_command_takes_the_place_of_a_waiting_one_of_its_kind(fleet, commands, clock):
    first = commands.queue(ADMIN, "isolate", ask())
    ids(commands)
    clock.advance_to(NOW + 1.0)
    second = commands.queue(ADMIN, "isolate", ask(reason="again"))
    assert ids(commands) == [second["command_id"]]
    with fleet.read() as connection:
        record = connection.execute(sa.select(audit_log).order_by(audit_log.c.sequence.desc())).first()
    assert record.detail["superseded"] == [first["command_id"]]
    late = commands.acknowledge("a1", done(first["command_id"]))
    assert (late["status"], late["result"]["status"]) == ("superseded", "done")
    assert ids(commands) == [second["command_id"]]


def test_to_acknowledge_twice_changes_nothing(commands, clock):
    queued = commands.queue(ADMIN, "allow", ask())
    ids(commands)
    first = commands.acknowledge("a1", done(queued["command_id"], "failed", "no nft"))
    clock.advance_to(NOW + 5.0)
    assert commands.acknowledge("a1", done(queued["command_id"])) == first
    assert commands.status("a1")[0]["state"] == "unknown"


def test_an_agent_cannot_acknowledge_anothers_command(commands):
    queued = commands.queue(ADMIN, "isolate", ask("a1"))
    with pytest.raises(ServerRefusalError) as caught:
        commands.acknowledge("a2", done(queued["command_id"]))
    assert (caught.value.status, caught.value.reason) == (404, "unknown_command")
    assert ids(commands, "a2") == []
    assert ids(commands, "a1") == [queued["command_id"]]


def test_a_command_is_void_after_a_day(fleet, commands, clock):
    queued = commands.queue(ADMIN, "isolate", ask())
    clock.advance_to(NOW + 86_400.0)
    assert commands.status("a1")[0]["commands"][0]["status"] == "expired"
    with fleet.read() as connection:
        assert pending_counts(connection, ["a1"], clock.now()) == {}
    assert ids(commands) == []
    late = commands.acknowledge("a1", done(queued["command_id"]))
    assert (late["status"], late["result"]["status"]) == ("expired", "done")


def test_expiry_of_all_counts_those_that_waited(fleet, commands, clock):
    commands.queue(ADMIN, "isolate", ask("a1"))
    commands.queue(ADMIN, "isolate", ask("a2"))
    clock.advance_to(NOW + 86_400.0)
    with fleet.write() as connection:
        assert expire_commands(connection, clock.now()) == 2
        assert expire_commands(connection, clock.now()) == 0


def test_agents_that_cannot_fetch_are_refused(fleet, commands):
    with pytest.raises(ServerRefusalError) as caught:
        commands.queue(ADMIN, "isolate", ask("stranger"))
    assert (caught.value.status, caught.value.reason) == (404, "unknown_agent")
    with fleet.write() as connection:
        connection.execute(sa.update(endpoint_agent).values(status="decommissioned"))
    with pytest.raises(ServerRefusalError) as caught:
        commands.queue(ADMIN, "isolate", ask("a1"))
    assert (caught.value.status, caught.value.reason) == (409, "agent_decommissioned")
    with fleet.read() as connection:
        assert connection.execute(sa.select(audit_log)).all() == []


def test_the_last_word_of_the_agent_decides_its_state(commands, clock):
    isolate = commands.queue(ADMIN, "isolate", ask())
    commands.acknowledge("a1", done(isolate["command_id"]))
    clock.advance_to(NOW + 1.0)
    allow = commands.queue(ADMIN, "allow", ask())
    assert commands.status("a1")[0]["state"] == "isolated"
    clock.advance_to(NOW + 2.0)
    commands.acknowledge("a1", done(allow["command_id"]))
    assert commands.status()[0]["state"] == "allowed"
    assert [command["kind"] for command in commands.status()[0]["commands"]] == ["allow", "isolate"]

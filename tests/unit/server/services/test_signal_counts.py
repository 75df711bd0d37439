"""Counts are kept by five minutes, survive what the database refuses, and add up over servers."""

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import FleetStoreError
from eguard.fleet.tables import endpoint_agent, signal_count
from eguard.server.services.count_measures import counted_days, sums
from eguard.server.services.signal_counts import NAMES, SignalCounts

NOW = 1_772_000_100.0  # a multiple of 300
UPLOAD = {"accepted": 3, "rejected": 1, "rows": 4, "seeded": 2}


@pytest.fixture
def clock():
    return SimulatedClock(NOW)


def read(database, since=NOW - 3600.0, until=NOW + 7200.0):
    with database.read() as connection:
        return sums(connection, since, until)


def test_an_upload_is_counted_with_its_rows_rejects_and_seeds(fleet, clock):
    counts = SignalCounts(fleet, clock, "one")
    counts.uploaded("a1", **UPLOAD)
    counts.uploaded("a1", **UPLOAD)
    counts.uploaded("a2", **UPLOAD)
    counts.flush()
    assert read(fleet) == dict.fromkeys(NAMES, 0) | {
        "accepted_rows": 9,
        "rejects": 3,
        "upload_agents": 2,
        "rows_applied": 6,
    }
    with fleet.read() as connection:
        assert set(connection.execute(sa.select(endpoint_agent.c.last_upload_at)).scalars()) == {NOW}


def test_only_agents_that_were_handed_seeds_count_for_the_hit_rate(fleet, clock):
    counts = SignalCounts(fleet, clock, "one")
    counts.handed_out("a1", 500)
    counts.uploaded("a1", **UPLOAD)
    counts.uploaded("a2", **UPLOAD)
    counts.flush()
    found = read(fleet)
    assert (found["seeds_fetched"], found["keys_asked"], found["keys_applied"]) == (500, 4, 2)
    assert found["rows_applied"] == 4
    clock.advance_to(NOW + 86_401.0)
    counts.uploaded("a1", **UPLOAD)
    counts.flush()
    assert read(fleet, NOW, NOW + 90_000.0)["keys_asked"] == 4  # a day later it has not asked any more


def test_who_asked_another_server_is_known_a_flush_later(fleet, clock):
    one, other = SignalCounts(fleet, clock, "one"), SignalCounts(fleet, clock, "other")
    other.flush()
    one.handed_out("a1", 5)
    one.flush()
    other.flush()
    other.uploaded("a1", **UPLOAD)
    other.flush()
    assert read(fleet)["keys_asked"] == 4


def test_writing_twice_changes_nothing_and_servers_add_up(fleet, clock):
    one, other = SignalCounts(fleet, clock, "one"), SignalCounts(fleet, clock, "other")
    for counts in (one, other):
        counts.uploaded("a1", **UPLOAD)
        counts.flush()
        counts.flush()
    assert read(fleet)["accepted_rows"] == 6
    one.uploaded("a1", **UPLOAD)
    one.flush()
    assert read(fleet)["accepted_rows"] == 9


def test_each_five_minutes_have_their_own_numbers(fleet, clock):
    counts = SignalCounts(fleet, clock, "one")
    for minute in range(12):
        clock.advance_to(NOW + 60.0 * minute)
        counts.add({"rejects": minute})
        counts.flush()
    assert read(fleet, NOW, NOW + 300.0)["rejects"] == 0 + 1 + 2 + 3 + 4
    assert read(fleet, NOW + 300.0, NOW + 600.0)["rejects"] == 5 + 6 + 7 + 8 + 9
    with fleet.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(signal_count)).scalar() == 3 * len(NAMES)
        assert counted_days(connection, NOW, NOW + 900.0) == 900.0 / 86_400.0


def test_what_is_counted_at_the_end_of_five_minutes_is_written_after_it(fleet, clock):
    counts = SignalCounts(fleet, clock, "one")
    clock.advance_to(NOW + 299.0)
    counts.add({"rejects": 1})
    clock.advance_to(NOW + 330.0)
    counts.flush()
    assert read(fleet, NOW, NOW + 300.0)["rejects"] == 1


def test_a_database_that_refuses_loses_nothing(fleet, clock, monkeypatch):
    counts = SignalCounts(fleet, clock, "one")
    counts.uploaded("a1", **UPLOAD)
    counts.handed_out("a1", 7)

    def refuse(*_, **__):
        raise FleetStoreError("away", reason="database_unavailable")

    with monkeypatch.context() as broken:
        broken.setattr(fleet, "retrying", refuse)
        with pytest.raises(FleetStoreError):
            counts.flush()
    counts.flush()
    assert (read(fleet)["accepted_rows"], read(fleet)["seeds_fetched"]) == (3, 7)
    with fleet.read() as connection:
        assert (
            connection.execute(sa.select(endpoint_agent.c.last_seed_at).order_by("agent_id")).scalars().first() == NOW
        )


def test_agents_that_were_seen_are_written_down_in_turns_with_uploads(fleet, clock, monkeypatch):
    """Whoever writes meanwhile waits for one group of agents at most; one that fails is written the next time."""
    names = [f"b{number:03}" for number in range(450)]
    with fleet.write() as connection:
        common = {"incarnation": "i", "incarnation_ordinal": 1, "group": "web", "group_revision": 0}
        rows = [{"agent_id": name, "status": "active", "enrolled_at": NOW, **common} for name in names]
        connection.execute(sa.insert(endpoint_agent), rows)
    counts, real, done = SignalCounts(fleet, clock, "one"), fleet.retrying, []

    def failing_once(function, **options):
        if len(done) == 2:
            done.append("failed")
            raise FleetStoreError("away", reason="database_unavailable")
        done.append("written")
        return real(function, **options)

    monkeypatch.setattr(fleet, "retrying", failing_once)
    for name in names:
        counts.uploaded(name, **UPLOAD)
    for name in [*names[:300], "a1"]:
        counts.handed_out(name, 1)
    with pytest.raises(FleetStoreError):
        counts.flush()
    counts.flush()
    # Counts and two groups; then counts, 300 with both times in two groups, and those with one of them.
    assert done == ["written", "written", "failed", *["written"] * 5]
    query = sa.select(endpoint_agent.c.agent_id, endpoint_agent.c.last_upload_at, endpoint_agent.c.last_seed_at)
    with fleet.read() as connection:
        found = {row[0]: (row[1], row[2]) for row in connection.execute(query)}
    expected = {name: (NOW, NOW if number < 300 else None) for number, name in enumerate(names)}
    assert found == expected | {"a1": (None, NOW), "a2": (None, None)}


def test_the_last_counts_are_written_at_the_end(fleet, clock):
    counts = SignalCounts(fleet, clock, "one")
    counts.start()
    counts.add({"trees_seen": 5})
    counts.close()
    assert read(fleet)["trees_seen"] == 5

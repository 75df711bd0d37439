"""A group of uploads in one transaction does what taking them one after the other means, on either database."""

import hashlib
import itertools

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eguard.fleet import FleetStore, bulk
from eguard.fleet.tables import endpoint_agent, endpoint_baseline, endpoint_incarnation
from eguard.wire.baseline import BaselineRow, ReceivedBatch

AGENTS = ("a", "b", "c")
LIVES = ("one", "two", "", None)
#: Every example has agents of its own in the one database.
NUMBERS = itertools.count()
CONTENTS = ({"alert": 1.0}, {"alert": 0.25, "login": 0.75})

rows = st.tuples(
    st.sampled_from(["bash:sshd", "Bash:sshd", "nginx:systemd", "cron:init"]),
    st.integers(1, 3),
    st.sampled_from([50, 60]),
    st.sampled_from(range(len(CONTENTS))),
)
uploads = st.tuples(st.sampled_from(AGENTS), st.sampled_from(LIVES), st.lists(rows, max_size=5))
histories = st.lists(st.lists(uploads, min_size=1, max_size=6), min_size=1, max_size=3)


class OneByOne:
    """The definition: one row after the other, in dictionaries."""

    def __init__(self):
        self.lives = {}
        self.latest = {}
        self.rows = {}

    def take(self, agent, life, rows):
        name = self.latest.get(agent, "") if life is None else life
        lives = self.lives.setdefault(agent, {})
        if name not in lives:
            lives[name] = len(lives) + 1
            self.latest[agent] = name
        counts = {"accepted": 0, "unchanged": 0, "stale": 0}
        reused = []
        for index, (key, seq, samples, content) in enumerate(rows):
            new = (lives[name], seq, samples, content, name)
            held = self.rows.get((agent, key), (0, 0, 0, 0, ""))
            if new[:2] > held[:2]:
                self.rows[agent, key] = new
                counts["accepted"] += 1
            elif new[:2] < held[:2]:
                counts["stale"] += 1
            elif new[2:4] == held[2:4]:
                counts["unchanged"] += 1
            else:
                reused.append(index)
        return (*counts.values(), reused)


def batch(agent, rows):
    made = [
        BaselineRow(
            process_key=key,
            event_distribution=CONTENTS[content],
            sample_count=samples,
            entropy_threshold=2.0,
            learned_at_unix=1000.25 + seq,
            seq=seq,
        )
        for key, seq, samples, content in rows
    ]
    # Every other row of the body was refused as it was read.
    return ReceivedBatch(agent, "batch", made, [2 * number + 1 for number in range(len(made))], [])


def stored(store, agents):
    with store.database.read() as connection:
        found = connection.execute(sa.select(endpoint_baseline).where(endpoint_baseline.c.agent_id.in_(agents))).all()
        lives = connection.execute(
            sa.select(endpoint_incarnation).where(endpoint_incarnation.c.agent_id.in_(agents))
        ).all()
        latest = connection.execute(sa.select(endpoint_agent).where(endpoint_agent.c.agent_id.in_(agents))).all()
    for row in found:
        assert row.key_shard == hashlib.blake2b(row.process_key.encode(), digest_size=1).digest()[0]
        assert row.learned_at == 1000.25 + row.seq
        assert sum(row.event_distribution.values()) == 1.0
        assert (row.distribution_vector[28:] == b"\0\0\x80?") == (row.event_distribution == CONTENTS[0])
    return (
        {
            (row.agent_id, row.process_key): (
                row.incarnation_ordinal,
                row.seq,
                row.sample_count,
                CONTENTS.index(row.event_distribution),
                row.incarnation,
            )
            for row in found
        },
        {(row.agent_id, row.incarnation): row.ordinal for row in lives},
        {row.agent_id: (row.incarnation, row.incarnation_ordinal) for row in latest},
    )


@pytest.fixture
def store(migrated_database_url):
    with FleetStore(migrated_database_url) as opened:
        yield opened


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(
    [
        [
            ("a", "one", [("cron:init", 2, 50, 0)]),
            ("a", "two", [("cron:init", 1, 50, 0)]),
            ("a", "one", [("cron:init", 3, 50, 0)]),
        ]
    ]
)
@example(
    [
        [("a", None, [("cron:init", 1, 50, 0), ("cron:init", 1, 60, 0), ("cron:init", 2, 50, 0)])],
        [("a", "", [("cron:init", 2, 50, 1)])],
    ]
)
@given(histories)
def test_a_group_does_what_one_upload_after_the_other_does(store, history):
    run = next(NUMBERS)
    names = {agent: f"{agent}{run}" for agent in AGENTS}
    model = OneByOne()
    for group in history:
        expected = [model.take(names[agent], life, rows) for agent, life, rows in group]
        results = store.upsert_group([(batch(names[agent], rows), life) for agent, life, rows in group])
        for (accepted, unchanged, stale, reused), result in zip(expected, results, strict=True):
            assert (result.accepted, result.unchanged, result.stale) == (accepted, unchanged, stale)
            assert [(bad.index, bad.code) for bad in result.rejected] == [
                (2 * index + 1, "seq_reused") for index in reused
            ]
    found, lives, latest = stored(store, list(names.values()))
    assert found == model.rows
    assert lives == {(agent, name): number for agent, of in model.lives.items() for name, number in of.items()}
    assert latest == {agent: (name, model.lives[agent][name]) for agent, name in model.latest.items()}


def test_groups_beyond_one_statement_are_stored_whole(store):
    """Three pieces of the largest size and a rest of several; a few rows of every piece are old."""
    count = 3 * bulk.MAX_PIECE_ROWS + 37
    rows = [(f"p{number}:init", 2, 50, number % 2) for number in range(count)]
    old = [(key, 3, samples, content) for key, _, samples, content in rows[::500]]
    assert store.upsert_group([(batch("whole", old), "one")])[0].accepted == len(old)
    results = store.upsert_group([(batch("whole", rows), "one"), (batch("other", rows[:5]), None)])
    assert (results[0].accepted, results[0].stale, results[1].accepted) == (count - len(old), len(old), 5)
    found, _, _ = stored(store, ["whole", "other"])
    assert len(found) == count + 5
    assert {key: age for (agent, key), (_, age, *_) in found.items() if agent == "whole"} == {
        key: 3 if number % 500 == 0 else 2 for number, (key, *_) in enumerate(rows)
    }

"""A fleet's database as uploads leave it, filled by single statements: agents x 500 process keys x 8 classes."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from eguard.fleet import FleetStore
from eguard.fleet.ingest import key_shard
from eguard.wire.distribution import CLASS_NAMES, distribution_from_vector

KEYS: Final = 500
VARIANTS: Final = 64
SEED: Final = 20260301

_INDEX: Final = "ix_endpoint_baseline_key_shard_process_key_agent_id"
_TEMPLATE: Final = "process_key, event_distribution, distribution_vector, sample_count, continuous, key_shard"


def add_agents(path: Path, numbers: range) -> None:
    """Add agents and their profiles by one statement."""
    FleetStore.create(f"sqlite:///{path}").close()
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    heard, enrolled, expires = (
        (now + dt.timedelta(days=days)).isoformat(" ", "microseconds") for days in (-0.1, -60.0, 30.0)
    )
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    # In one transaction all of it would go into the write-ahead log first.
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("PRAGMA cache_size = -100000")
    (index,) = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", [_INDEX]).fetchone()
    database.execute(f"DROP INDEX {_INDEX}")
    database.execute("BEGIN")
    if not numbers.start:
        database.execute(f"CREATE TABLE template (variant, {_TEMPLATE})")
        database.executemany("INSERT INTO template VALUES (?, ?, ?, ?, ?, ?, ?)", _templates())
        database.execute("CREATE INDEX by_variant ON template (variant)")
    database.executemany(
        'INSERT INTO endpoint_agent (agent_id, incarnation, incarnation_ordinal, "group", status, last_heartbeat, '
        "enrolled_at, heard_hours) VALUES (?, 'first', 1, 'default', 'active', ?, ?, 1000)",
        ((f"agent-{number:06d}", heard, enrolled) for number in numbers),
    )
    database.execute(
        f"INSERT INTO endpoint_baseline (agent_id, {_TEMPLATE}, entropy_threshold, learned_at, updated_at, expires_at, "
        f"incarnation, incarnation_ordinal, seq) SELECT agent_id, {_TEMPLATE}, 2.5, ?, ?, ?, 'first', 1, 1 "
        "FROM endpoint_agent CROSS JOIN template ON template.variant = endpoint_agent.rowid % ? "
        "WHERE endpoint_agent.agent_id >= ?",
        [enrolled, heard, expires, VARIANTS, f"agent-{numbers.start:06d}"],
    )
    database.execute("COMMIT")
    database.execute(index)
    database.close()


def _templates() -> Iterator[tuple[Any, ...]]:
    """Yield the profiles that agents share: every agent has one variant of each key's."""
    rng = np.random.default_rng(SEED)
    base = rng.dirichlet(np.full(len(CLASS_NAMES), 0.7), size=KEYS)
    for number in range(KEYS):
        key = f"service-{number:03d}:systemd"
        weights = rng.standard_gamma(60.0 * base[number] + 0.05, size=(VARIANTS, len(CLASS_NAMES)))
        weights[weights < 0.5] = 0.0
        means = rng.normal(3.0, 0.4, size=(VARIANTS, 2))
        for variant, vote in enumerate(weights / weights.sum(axis=1, keepdims=True)):
            moments = [{"count": 40, "mean": float(mean), "m2": 1.5} for mean in means[variant]]
            yield (
                variant,
                key,
                json.dumps(distribution_from_vector(vote)),
                vote.astype("<f4").tobytes(),
                int(rng.integers(30, 5_000)),
                json.dumps(dict(zip(("interarrival", "payload"), moments, strict=True))),
                key_shard(key),
            )

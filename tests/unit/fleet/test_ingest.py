"""Shards and the guard of the upsert statement."""

import hashlib

import numpy as np
import sqlalchemy as sa

from eguard.fleet.database import Database
from eguard.fleet.ingest import KEY_SHARDS, Accepted, key_shard, store_rows
from eguard.fleet.registration import Incarnation, register_agent
from eguard.fleet.tables import endpoint_baseline
from eguard.wire import BaselineRow


def test_shards_are_stable_and_spread():
    assert key_shard("bash:sshd") == hashlib.blake2b(b"bash:sshd", digest_size=1).digest()[0]
    counts = np.bincount([key_shard(f"p{number}:init") for number in range(25_600)], minlength=KEY_SHARDS)
    assert counts.min() > 50
    assert counts.max() < 160


def test_the_statement_itself_refuses_what_is_older(migrated_database_url):
    """The rows are compared before; whoever forgets that must still not turn a column back."""
    database = Database(migrated_database_url)
    with database.write() as connection:
        register_agent(connection, "a", "first", 0.0)
        for ordinal, seq, samples in ((1, 5, 105), (1, 4, 104), (1, 5, 999), (2, 1, 201), (1, 9, 109), (2, 2, 202)):
            row = BaselineRow(
                process_key="bash:sshd",
                event_distribution={"alert": 1.0},
                sample_count=samples,
                entropy_threshold=1.0,
                learned_at_unix=0.0,
                seq=seq,
            )
            store_rows(connection, [Accepted("a", Incarnation(f"i{ordinal}", ordinal), row)], float(samples))
            columns = endpoint_baseline.c
            stored = connection.execute(
                sa.select(columns.sample_count, columns.updated_at, columns.incarnation_ordinal, columns.seq)
            ).one()
            assert stored.sample_count == stored.updated_at == 100 * stored.incarnation_ordinal + stored.seq
        assert (stored.incarnation_ordinal, stored.seq) == (2, 2)
    database.dispose()

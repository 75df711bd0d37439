"""Shards and the guard of the upsert statement."""

import hashlib

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.fleet import ingest
from eguard.fleet.database import Database
from eguard.fleet.ingest import KEY_SHARDS, Accepted, Upload, key_shard, store_rows, take_uploads
from eguard.fleet.registration import Incarnation, register_agent
from eguard.fleet.store import FleetStore
from eguard.fleet.tables import endpoint_baseline
from eguard.wire import BaselineRow


def baseline_row(process_key: str, seq: int, samples: int) -> BaselineRow:
    return BaselineRow(
        process_key=process_key,
        event_distribution={"alert": 1.0},
        sample_count=samples,
        entropy_threshold=1.0,
        learned_at_unix=0.0,
        seq=seq,
    )


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
            row = baseline_row("bash:sshd", seq, samples)
            store_rows(connection, [Accepted("a", Incarnation(f"i{ordinal}", ordinal), [row])], float(samples))
            columns = endpoint_baseline.c
            stored = connection.execute(
                sa.select(columns.sample_count, columns.updated_at, columns.incarnation_ordinal, columns.seq)
            ).one()
            assert stored.sample_count == stored.updated_at == 100 * stored.incarnation_ordinal + stored.seq
        assert (stored.incarnation_ordinal, stored.seq) == (2, 2)
    database.dispose()


# Few agents, keys and numbers, so that uploads meet each other and what is there in every way.
UPLOADS = st.builds(
    Upload,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["first", "second", None]),
    st.lists(
        st.builds(
            lambda key, seq, samples: baseline_row(f"p{key}:init", seq, samples),
            st.integers(0, 3),
            st.integers(1, 4),
            st.integers(1, 2),
        ),
        max_size=5,
    ),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(UPLOADS, min_size=1, max_size=3), max_size=6))
def test_to_write_first_comes_to_the_same_as_to_look_first(groups):
    def outcome() -> tuple[list[object], list[object], list[object]]:
        with FleetStore.create("sqlite://") as store:
            marks: set[str] = set()
            results: list[object] = []
            for at, group in enumerate(groups):
                with store.database.write() as connection:
                    results.append(take_uploads(connection, group, float(at), marks))
            with store.database.read() as connection:
                order = endpoint_baseline.c.agent_id, endpoint_baseline.c.process_key
                rows = connection.execute(sa.select(endpoint_baseline).order_by(*order)).all()
            return results, list(map(tuple, rows)), sorted(marks)

    quick = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "_is_each_key_once", lambda _: False)
        assert outcome() == quick

"""The layout of features.parquet, and the names of its rows."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from eguard.detection.features import FEATURE_NAMES
from eguard.mlops.feature_table import SCHEMA, UNRESOLVED, FeatureTableWriter, ScoredRows, sample_ids


def rows(n=4, source="ait", network="fox"):
    rng = np.random.default_rng(n)
    return ScoredRows(
        source=source,
        observed_at_unix=np.array([10.0, 10.0, 11.5, 12.0][:n]),
        host_id=["h1", "h1", "h1", "h2"][:n],
        network=[network] * n,
        rule_id=["R", "R", "S", "R"][:n],
        event_class=np.array([7, 7, -1, 0][:n]),
        attack_step=["dirb", "", "", "cracking"][:n],
        is_reservoir=np.array([False, False, True, False][:n]),
        label=np.array([1, 0, UNRESOLVED, 1][:n], dtype=np.int8),
        label_source=["x", "x", "unresolved", "x"][:n],
        severity=np.full(n, 0.5),
        features=rng.random((n, len(FEATURE_NAMES))),
    )


def test_a_file_has_the_agreed_columns_and_values(tmp_path):
    given = rows()
    with FeatureTableWriter(tmp_path / "f.parquet") as writer:
        writer.write(given)
        assert writer.rows_written == 4
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.schema.names == SCHEMA.names
    assert table["label"].to_pylist() == [1, 0, None, 1]
    assert table["event_class"].to_pylist() == ["alert", "alert", "uncounted", "process_exec"]
    assert table["is_flood"].to_pylist() == [True, False, False, False]
    assert table["host_id"].to_pylist() == given.host_id
    assert np.array_equal(np.column_stack([table[name].to_numpy() for name in FEATURE_NAMES]), given.features)


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        with FeatureTableWriter(tmp_path / name) as writer:
            writer.write(rows())
            writer.write(rows(2, "endpoint", "lab"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_rows_make_no_row_group(tmp_path):
    with FeatureTableWriter(tmp_path / "f.parquet") as writer:
        writer.write(ScoredRows.concatenate("ait", []))
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.num_rows == 0
    assert table.schema.names == SCHEMA.names


def test_equal_events_have_different_names():
    names = sample_ids(rows())
    assert len(set(names)) == 4
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)


def test_a_name_depends_on_the_event_and_not_on_its_score_or_its_neighbours():
    given = rows()
    assert sample_ids(replace(given, features=np.zeros_like(given.features))) == sample_ids(given)
    assert sample_ids(rows(2)) == sample_ids(given)[:2]
    assert set(sample_ids(rows(4, "endpoint"))).isdisjoint(sample_ids(given))
    assert set(sample_ids(rows(4, network="shaw"))).isdisjoint(sample_ids(given))


def test_rows_join_end_to_end():
    joined = ScoredRows.concatenate("ait", [rows(3), rows(2)])
    assert len(joined) == 5
    assert joined.host_id == ["h1", "h1", "h1", "h1", "h1"]
    assert joined.features.shape == (5, len(FEATURE_NAMES))


def test_a_row_of_another_width_is_refused(tmp_path):
    with FeatureTableWriter(tmp_path / "f.parquet") as writer, pytest.raises(IndexError):
        writer.write(replace(rows(), features=np.zeros((4, 3))))

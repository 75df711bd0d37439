import json

import numpy as np
import pandas as pd
import pytest

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.errors import ConfigError
from eguard.mlops.corpus import CorpusParams, run
from eguard.mlops.corpus_rows import ROW_FIELDS


def read_ndjson(workspace):
    with (workspace.processed / "signature-ml-features.ndjson").open() as file:
        return [json.loads(line) for line in file]


def build(workspace, seed=0, **params):
    report = run(CorpusParams(**params), seed=seed, workspace=workspace)
    return report, pd.read_parquet(workspace.processed / "corpus.parquet")


def test_weights_add_up_to_all_signals(workspace_of, build_signals):
    signals = build_signals()
    report, corpus = build(workspace_of(signals), flood_cap=5, sample_count=1200)
    assert len(corpus) <= 1200
    assert corpus["weight"].sum() == pytest.approx(len(signals), rel=0.02)
    assert report["signals"] == len(signals)
    assert report["rows"] == len(corpus) == report["flood_cap"]["rows_sampled"]


def test_a_flood_is_capped_by_host_rule_and_window(workspace_of, build_signals):
    report, corpus = build(workspace_of(build_signals()), flood_cap=7)
    hour = corpus["observed_at_unix"] // 3600
    assert corpus.groupby(["host_id", "rule_id", hour], observed=True).size().max() == 7
    flood = corpus[corpus["is_flood"]]
    assert flood["weight"].sum() == pytest.approx(5 * 200, rel=0.1)
    assert report["flood_cap"]["signals_per_host_rule_and_window"] == 7


def test_every_row_keeps_its_features(workspace_of, build_signals):
    signals = build_signals()
    rng = np.random.default_rng(1)
    signals[list(FEATURE_NAMES)] = rng.random((len(signals), len(FEATURE_NAMES)))
    _, corpus = build(workspace_of(signals), flood_cap=3)
    expected = signals.set_index("sample_id").loc[corpus["sample_id"]]
    for name in (*FEATURE_NAMES, "host_id", "rule_id", "label", "observed_at_unix"):
        assert corpus[name].astype(object).tolist() == expected[name].astype(object).tolist(), name


def test_ndjson_rows_are_those_of_the_manual(workspace_of, build_signals):
    workspace = workspace_of(build_signals())
    _, corpus = build(workspace)
    rows = read_ndjson(workspace)
    assert [list(row) for row in rows[:2]] == [[*ROW_FIELDS, *FEATURE_NAMES]] * 2
    assert [row["sample_id"] for row in rows] == corpus["sample_id"].tolist()
    first = corpus.iloc[0]
    assert rows[0]["observed_at_utc"] == pd.Timestamp(first["observed_at_unix"], unit="s").isoformat()[:26] + "Z"
    assert rows[0]["adjudicated_at_utc"][:10] == "2020-09-14"
    assert (rows[0]["model_score"], rows[0]["analyst"]) == (None, None)
    assert rows[0]["rule_burst"] == first["rule_burst"]


def test_unresolved_signals_have_null_labels(workspace_of, build_signals):
    signals = build_signals()
    signals.loc[:99, "label"] = pd.NA
    workspace = workspace_of(signals)
    report, corpus = build(workspace)
    assert report["by_network"]["n0"]["unresolved"] == corpus["label"].isna().sum() > 50
    unresolved = [row for row in read_ndjson(workspace) if row["label"] is None]
    assert len(unresolved) == corpus["label"].isna().sum()
    assert {row["adjudicated_at_utc"] for row in unresolved} == {None}


def test_the_same_input_gives_the_same_bytes(workspace_of, build_signals):
    workspace = workspace_of(build_signals())
    paths = [workspace.processed / "corpus.parquet", workspace.processed / "signature-ml-features.ndjson"]
    build(workspace, sample_count=900)
    before = [path.read_bytes() for path in paths]
    build(workspace, sample_count=900)
    assert [path.read_bytes() for path in paths] == before


def test_the_order_of_the_feature_table_does_not_choose(workspace_of, build_signals):
    signals = build_signals()
    first, _ = build(workspace_of(signals), sample_count=900)
    second, _ = build(workspace_of(signals.sample(frac=1.0, random_state=1)), sample_count=900)
    assert first["sample_ids_sha256"] == second["sample_ids_sha256"]


def test_permuted_labels_keep_their_number_and_nothing_else(workspace_of, build_signals):
    workspace = workspace_of(build_signals())
    _, straight = build(workspace)
    report, permuted = build(workspace, permute_labels=True, seed=3)
    assert report["labels_permuted"]
    assert permuted["label"].sum() == straight["label"].sum()
    assert 0.2 < (permuted["label"] != straight["label"]).mean() < 0.5
    assert permuted.drop(columns="label").equals(straight.drop(columns="label"))
    _, other = build(workspace, permute_labels=True, seed=4)
    assert (other["label"] != permuted["label"]).any()


def test_live_signals_go_before_shipped_ones(workspace_of, build_signals):
    signals = build_signals()
    signals.loc[signals["network"] == "n4", "source"] = "live"
    _, corpus = build(workspace_of(signals), sample_count=700, flood_cap=1000)
    assert (corpus["source"] == "live").sum() == 700
    _, corpus = build(workspace_of(signals), sample_count=4000, external_sample_cap=300, flood_cap=1000)
    assert (corpus["source"] == "ait").sum() <= 300
    assert (corpus["source"] == "live").sum() == (signals["source"] == "live").sum()


def test_only_the_chosen_sources_enter(workspace_of, build_signals):
    signals = build_signals()
    signals.loc[signals["network"] == "n4", "source"] = "sigma"
    report, corpus = build(workspace_of(signals))
    assert set(corpus["source"]) == {"ait"}
    assert "n4" not in report["by_network"]


def test_a_missing_table_and_a_missing_column_are_named(workspace_of, build_signals, tmp_path):
    workspace = workspace_of(build_signals().drop(columns="tree_depth"))
    with pytest.raises(ConfigError, match="tree_depth"):
        build(workspace)
    (workspace.interim / "features.parquet").unlink()
    with pytest.raises(ConfigError, match="no feature table"):
        build(workspace)

import json

import numpy as np
import pandas as pd
import pytest

from eguard.detection.feature_contract import contract_sha256
from eguard.detection.model import load_model
from eguard.errors import ConfigError
from eguard.mlops import corpus, train
from eguard.mlops.dataset import load_dataset
from eguard.mlops.resources import PROFILES
from eguard.mlops.workspace import Workspace

SMALL = train.TrainParams(
    resource_profile="tiny", l2_grid_points=2, bootstrap_replicates=20, boosting_min_samples_leaf=20
)
MANUAL_KEYS = {
    "resource_profile",
    "detected_cpu_count",
    "detected_memory_gib",
    "effective_max_iter",
    "effective_max_samples",
    "effective_l2_grid_points",
    "sampled_from_rows",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_signals):
    workspace = Workspace(tmp_path_factory.mktemp("train"))
    workspace.interim.mkdir(parents=True)
    small_signals.to_parquet(workspace.interim / "features.parquet")
    corpus.run(corpus.CorpusParams(), seed=0, workspace=workspace)
    return workspace, train.run(SMALL, seed=1, workspace=workspace)


def read(workspace, name):
    return json.loads((workspace.models / name).read_text())


def test_the_model_is_one_that_agents_read(trained):
    workspace, report = trained
    model = load_model(read(workspace, "signature-ml-model.json"), expected_contract_sha256=contract_sha256())
    assert model.kind == report["kind"]
    assert model.threshold == report["operating_point"]["threshold"]
    assert set(model.tables.rule_precision) <= {f"R{code}" for code in range(10)}


def test_the_holdout_took_no_part(trained, tmp_path):
    """Turning every label of the holdout round changes no byte of the model."""
    workspace, report = trained
    table = pd.read_parquet(workspace.processed / "corpus.parquet")
    held_out = table["network"].isin(report["holdout"]["units"])
    assert held_out.any()
    table.loc[held_out, "label"] = 1 - table.loc[held_out, "label"]
    other = Workspace(tmp_path)
    other.processed.mkdir(parents=True)
    table.to_parquet(other.processed / "corpus.parquet")
    train.run(SMALL, seed=1, workspace=other)
    name = "signature-ml-model.json"
    assert (other.models / name).read_bytes() == (workspace.models / name).read_bytes()


def test_training_twice_gives_the_same_bytes(trained):
    workspace, _ = trained
    paths = [workspace.models / "signature-ml-model.json", workspace.reports / "train.json"]
    before = [path.read_bytes() for path in paths]
    train.run(SMALL, seed=1, workspace=workspace)
    assert [path.read_bytes() for path in paths] == before


def test_the_metadata_has_the_manuals_keys_and_the_model_no_facts_of_the_machine(trained):
    workspace, _ = trained
    metadata = read(workspace, "signature-ml-model-metadata.json")
    assert metadata.keys() >= MANUAL_KEYS
    assert metadata["resource_profile"] == "tiny"
    assert (metadata["effective_max_iter"], metadata["effective_l2_grid_points"]) == (40, 2)
    assert metadata["sampled_from_rows"] == len(load_dataset(workspace.processed / "corpus.parquet"))
    assert set(metadata["holdout"]["hosts"]) == {f"n4/h{host}" for host in range(6)}
    assert not MANUAL_KEYS & read(workspace, "signature-ml-model.json").keys()


def test_every_candidate_is_reported_and_one_is_chosen(trained):
    _, report = trained
    candidates = report["cross_validation"]["candidates"]
    assert [candidate["is_chosen"] for candidate in candidates].count(True) == 1
    assert {candidate["specification"]["kind"] for candidate in candidates} == {"logistic", "gradient_boosting"}
    assert all(len(candidate["average_precision"]) == 5 for candidate in candidates)


def test_the_classifier_finds_what_there_is_to_find(trained):
    """Two features and the rule's worth decide; the out-of-fold score is far above the base rate."""
    _, report = trained
    figures = report["out_of_fold"]["mean_average_precision"]
    base = np.mean([unit["base_rate"]["value"] for unit in report["out_of_fold"]["by_unit"].values()])
    assert figures["interval"][0] > 1.5 * base


def test_permuted_labels_bring_the_score_to_chance(trained, tmp_path):
    workspace, _ = trained
    other = Workspace(tmp_path)
    other.interim.mkdir(parents=True)
    (other.interim / "features.parquet").write_bytes((workspace.interim / "features.parquet").read_bytes())
    corpus.run(corpus.CorpusParams(permute_labels=True), seed=7, workspace=other)
    report = train.run(SMALL, seed=1, workspace=other)
    for unit in report["out_of_fold"]["by_unit"].values():
        assert unit["roc_auc"]["value"] == pytest.approx(0.5, abs=0.12)


def test_max_samples_samples_down(trained, tmp_path):
    workspace, _ = trained
    other = Workspace(tmp_path)
    other.processed.mkdir(parents=True)
    (other.processed / "corpus.parquet").write_bytes((workspace.processed / "corpus.parquet").read_bytes())
    report = train.run(SMALL.model_copy(update={"max_samples": 1200}), seed=1, workspace=other)
    assert report["rows"] <= 1200
    assert read(other, "signature-ml-model-metadata.json")["sampled_from_rows"] > 1200


def test_a_rising_feature_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="colour"):
        train.specifications(SMALL.model_copy(update={"boosting_rising": ("colour",)}), PROFILES[0])


def test_the_version_is_that_of_the_last_row(trained):
    last = load_dataset(trained[0].processed / "corpus.parquet").time_unix.max()
    assert trained[1]["model_version"] == f"rules-{pd.Timestamp(last, unit='s'):%Y.%m.%d}.ml.v1"

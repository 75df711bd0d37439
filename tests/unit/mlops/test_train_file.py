"""Training with the files and flags of operations manual 5.1."""

import json

import pandas as pd
import pytest

from eguard.detection.feature_contract import contract, contract_sha256
from eguard.detection.model import load_model
from eguard.errors import ConfigError, CorruptFileError, GateFailedError
from eguard.mlops import corpus
from eguard.mlops.train_file import TrainFiles, read_ndjson, train_file
from eguard.mlops.workspace import Workspace, write_artefact, write_report
from eguard.settings import MlopsSettings

#: Operations manual 5.1.
METADATA_KEYS = {
    "resource_profile",
    "detected_cpu_count",
    "detected_memory_gib",
    "effective_max_iter",
    "effective_max_samples",
    "effective_l2_grid_points",
    "sampled_from_rows",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_signals):
    folder = tmp_path_factory.mktemp("files")
    workspace = Workspace(folder)
    workspace.interim.mkdir(parents=True)
    small_signals.to_parquet(workspace.interim / "features.parquet")
    corpus.run(corpus.CorpusParams(), seed=0, workspace=workspace)
    write_artefact(folder / "schema.json", contract())
    write_report(folder / "labels.json", {"passed": True})
    return TrainFiles(
        workspace.processed / "signature-ml-features.ndjson",
        folder / "schema.json",
        folder / "labels.json",
        folder / "out" / "model.json",
        folder / "out" / "metadata.json",
    )


def with_file(files, **changed):
    return TrainFiles(**{name: changed.get(name, getattr(files, name)) for name in files.__dataclass_fields__})


def test_ndjson_says_what_the_corpus_says(files):
    table = read_ndjson(files.dataset).to_pandas()
    corpus = pd.read_parquet(files.dataset.with_name("corpus.parquet"))
    for name in ("observed_at_unix", "adjudicated_at_unix", "weight", "rule_burst"):
        assert table[name].tolist() == pytest.approx(corpus[name].tolist()), name
    for name in ("sample_id", "host_id", "label"):
        assert table[name].tolist() == corpus[name].tolist(), name


def test_a_model_comes_out_with_the_manuals_metadata(files):
    metadata = train_file(files, MlopsSettings(l2_grid_points=2, max_samples=900), "rules-2026.03.01.ml.v1", "tiny")
    assert set(metadata) >= METADATA_KEYS
    assert json.loads(files.metadata_out.read_text()) == metadata
    assert (metadata["resource_profile"], metadata["effective_max_samples"]) == ("tiny", 900)
    assert metadata["sampled_from_rows"] == len(files.dataset.read_bytes().splitlines())
    model = load_model(json.loads(files.model_out.read_text()), expected_contract_sha256=contract_sha256())
    assert model.version == "rules-2026.03.01.ml.v1"


def test_labels_that_failed_their_gate_are_refused(files, tmp_path):
    write_report(tmp_path / "labels.json", {"passed": False})
    with pytest.raises(GateFailedError, match="passed their gate"):
        train_file(with_file(files, labels_report=tmp_path / "labels.json"), MlopsSettings(), None, "tiny")


def test_another_contract_is_refused(files, tmp_path):
    write_artefact(tmp_path / "schema.json", {"features": []})
    with pytest.raises(ConfigError, match="feature contract"):
        train_file(with_file(files, feature_schema=tmp_path / "schema.json"), MlopsSettings(), None, "tiny")


def test_a_profile_that_does_not_exist_is_named(files):
    with pytest.raises(ConfigError, match="resource_profile"):
        train_file(files, MlopsSettings(), None, "gigantic")


@pytest.mark.parametrize(("line", "said"), [("not json", "line 2"), ('{"sample_id": "a"}', "line 2: no ")])
def test_a_bad_row_is_named(files, tmp_path, line, said):
    first = files.dataset.read_text().splitlines()[0]
    (tmp_path / "corpus.ndjson").write_text(f"{first}\n{line}\n")
    with pytest.raises(CorruptFileError, match=said):
        read_ndjson(tmp_path / "corpus.ndjson")


def test_no_file_and_no_row_are_told_apart(tmp_path):
    (tmp_path / "empty.ndjson").touch()
    with pytest.raises(ConfigError, match="has no rows"):
        read_ndjson(tmp_path / "empty.ndjson")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_ndjson(tmp_path / "none.ndjson")

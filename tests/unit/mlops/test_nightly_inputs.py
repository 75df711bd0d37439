"""What a night starts from besides the database."""

import hashlib
import json

import pytest
import yaml

from eguard.bundle.keys import generate_keys
from eguard.bundle.manifest import MANIFEST_NAME, PROVENANCE_NAME, Manifest, describe_file
from eguard.bundle.provenance import build_statement
from eguard.bundle.repository import Repository
from eguard.detection.feature_contract import contract
from eguard.errors import BundleError, ConfigError
from eguard.mlops.nightly_inputs import find_inputs, installed_pipeline, place_base, shipped_reason
from eguard.mlops.workspace import Workspace
from eguard.settings import NightlySettings
from eguard.wire.canonical import canonical_json

FILES = {"rules.json": b'{"rules": 1}', "indicators.json": b"{}", "models/fleet-context.json": b"{}"}


def published(folder):
    manifest = Manifest(
        format=1,
        model_version="m",
        feature_contract_sha256="0" * 64,
        promoted=True,
        files={name: describe_file(data, 1) for name, data in FILES.items()},
    )
    files = FILES | {MANIFEST_NAME: manifest.to_bytes()}
    statement = build_statement(subjects=files, inputs={}, parameters={}, revision="r", version="1")
    files[PROVENANCE_NAME] = canonical_json(statement)
    Repository(folder / "repository", generate_keys(folder / "keys")).publish(files)
    return folder / "repository", files


@pytest.fixture
def code(tmp_path):
    """A pipeline workspace that has made a corpus."""
    folder = tmp_path / "code"
    (folder / "pipelines" / "nightly").mkdir(parents=True)
    (folder / "pipelines" / "nightly" / "dvc.yaml").write_text("stages: {}")
    (folder / "data" / "processed").mkdir(parents=True)
    (folder / "data" / "processed" / "corpus.parquet").write_bytes(b"rows")
    return folder


def settings(code, tmp_path):
    return NightlySettings(agent_repo_path=code, output_root=tmp_path / "out")


def test_the_installed_pipeline_has_a_night():
    assert (installed_pipeline() / "pipelines" / "nightly" / "params.yaml").is_file()


def test_the_served_bundle_is_read_by_its_digests(code, tmp_path):
    repository, files = published(tmp_path)
    assert find_inputs(settings(code, tmp_path), repository).bundle == files
    target = next((repository / "targets").glob("*.rules.json"))
    target.chmod(0o644)
    target.write_bytes(b'{"rules": 2}')
    with pytest.raises(BundleError, match=r"rules\.json"):
        find_inputs(settings(code, tmp_path), repository)


def test_what_retraining_does_not_make_is_the_served_bundles(code, tmp_path):
    repository, _ = published(tmp_path)
    inputs = find_inputs(settings(code, tmp_path), repository)
    workspace = Workspace(tmp_path / "run")
    assert place_base(inputs, workspace)
    assert (workspace.interim / "rules.json").read_bytes() == FILES["rules.json"]
    assert json.loads((workspace.models / "beacon-calibration.json").read_text())["insufficient_calibration"] is True


def test_without_a_bundle_none_can_be_built(code, tmp_path):
    inputs = find_inputs(settings(code, tmp_path), tmp_path / "no-repository")
    assert (inputs.bundle, inputs.bundle_from) == (None, "none")
    assert not place_base(inputs, Workspace(tmp_path / "run"))


def test_a_corpus_that_another_run_writes_is_not_taken(code, tmp_path):
    path = "data/processed/corpus.parquet"
    out = {"path": path, "md5": hashlib.md5(b"rows", usedforsecurity=False).hexdigest()}
    (code / "dvc.lock").write_text(yaml.safe_dump({"stages": {"corpus": {"outs": [out]}}}))
    assert find_inputs(settings(code, tmp_path), None).shipped == code / path
    (code / path).write_bytes(b"half of the ro")
    with pytest.raises(ConfigError, match="a run is under way"):
        find_inputs(settings(code, tmp_path), None)


def test_a_folder_that_is_no_workspace_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no pipeline workspace"):
        find_inputs(settings(tmp_path, tmp_path), None)


def test_a_shipped_corpus_needs_its_schema_beside_it(tmp_path):
    corpus, schema = tmp_path / "corpus.parquet", tmp_path / "feature-schema.json"
    assert "missing" in shipped_reason(corpus)
    schema.write_text("no json")
    assert "no JSON" in shipped_reason(corpus)
    schema.write_text("{}")
    assert "another contract" in shipped_reason(corpus)
    schema.write_bytes(canonical_json(contract()))
    assert shipped_reason(corpus) == ""

"""One section of the parameter file: what a stage reads, and what the machine's environment puts over it."""

from pathlib import Path

import pytest

from eguard.errors import ConfigError
from eguard.mlops.corpus import CorpusParams
from eguard.mlops.evaluate import EvaluateParams
from eguard.mlops.section import OVERRIDES, load_section
from eguard.mlops.train import TrainParams
from eguard.settings import MlopsSettings

MODELS = {"corpus": CorpusParams, "train": TrainParams, "offline_eval": EvaluateParams}
FILE = Path(__file__).parents[3] / "params.yaml"


def written(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_a_stage_reads_its_section_and_the_base(tmp_path):
    path = written(tmp_path, "base: {seed: 7}\ntrain: {cv_folds: 9}\ncorpus: {not_read_here: 1}\n")
    base, section = load_section(path, "train", TrainParams, MlopsSettings())
    assert (base.seed, section.cv_folds) == (7, 9)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("train: {colour: red}", "train.colour"),
        ("train: {cv_folds: 2}", "train.cv_folds"),
        ("train: [1]", "train"),
        ("base: {seed: -1}", "base.seed"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, key):
    with pytest.raises(ConfigError) as caught:
        load_section(written(tmp_path, text), "train", TrainParams, MlopsSettings())
    assert caught.value.context["key"] == key


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "just words"])
def test_what_is_no_parameter_file_is_refused(tmp_path, text):
    with pytest.raises(ConfigError):
        load_section(written(tmp_path, text), "train", TrainParams, MlopsSettings())


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("corpus", "sample_count", 1234),
        ("corpus", "external_sample_cap", 55),
        ("train", "resource_profile", "tiny"),
        ("train", "max_samples", 4321),
        ("train", "cv_folds", 8),
        ("train", "l2_grid_points", 3),
        ("offline_eval", "fail_on_threshold", True),
        ("offline_eval", "fail_on_regression", True),
    ],
)
def test_every_setting_of_the_environment_reaches_its_stage(monkeypatch, name, key, value):
    _, before = load_section(FILE, name, MODELS[name], MlopsSettings())
    assert getattr(before, key) != value
    monkeypatch.setenv(f"EGUARD_ML_{key.upper()}", str(value))
    _, section = load_section(FILE, name, MODELS[name], MlopsSettings())
    assert getattr(section, key) == value


def test_no_setting_is_forgotten():
    assert {key for keys in OVERRIDES.values() for key in keys} == set(MlopsSettings.model_fields)

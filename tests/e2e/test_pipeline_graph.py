"""The pipeline's wiring: every stage exists, every parameter is read by the stage that lists it."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from eguard.errors import ConfigError
from eguard.mlops.headline import HEADLINES
from eguard.mlops.params import Params, apply_settings, load_params
from eguard.settings import load_mlops_settings

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_parameters_are_valid_and_complete():
    assert load_params(ROOT / "params.yaml").base.seed == 20260301


def test_every_stage_has_its_script_and_a_description():
    for name, stage in STAGES.items():
        assert stage["cmd"] == f"python -m pipelines.{name}"
        assert importlib.util.find_spec(f"pipelines.{name}") is not None
        assert stage["desc"]


def test_every_section_belongs_to_one_stage():
    listed = [section for stage in STAGES.values() for section in stage["params"] if "." not in section]
    assert sorted(listed) == sorted(set(Params.model_fields) - {"base"})


def test_compiled_code_is_no_dependency():
    assert "__pycache__/" in (ROOT / ".dvcignore").read_text().splitlines()


def test_every_headline_is_a_metric_of_its_stage():
    listed = {
        name: [Path(next(iter(metric))).stem for metric in stage["metrics"]]
        for name, stage in STAGES.items()
        if "metrics" in stage
    }
    assert listed == {name: list(figures) for name, figures in HEADLINES.items()}


@pytest.mark.parametrize("name", STAGES)
def test_dependencies_exist_or_are_made_by_another_stage(name):
    made = set()
    for stage in STAGES.values():
        for kind in ("outs", "metrics"):
            made |= {out if isinstance(out, str) else next(iter(out)) for out in stage.get(kind, [])}
    missing = [dep for dep in STAGES[name]["deps"] if dep not in made and not (ROOT / dep).exists()]
    assert missing == []


def test_unknown_and_wrong_parameters_are_named(tmp_path):
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, key, value in (("train", "colour", "red"), ("calibrate", "alpha", 0.7), ("base", "seed", -1)):
        spoiled = {**document, section: {**document[section], key: value}}
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(spoiled))
        with pytest.raises(ConfigError, match=rf"{section}\.{key}"):
            load_params(path)
    with pytest.raises(ConfigError, match="cannot read"):
        load_params(tmp_path / "absent.yaml")


def test_environment_overrides_the_file(monkeypatch):
    params = load_params(ROOT / "params.yaml")
    assert apply_settings(params, load_mlops_settings()) == params
    monkeypatch.setenv("EGUARD_ML_FAIL_ON_THRESHOLD", "1")
    monkeypatch.setenv("EGUARD_ML_CV_FOLDS", "7")
    monkeypatch.setenv("EGUARD_ML_SAMPLE_COUNT", "1000")
    changed = apply_settings(params, load_mlops_settings())
    assert changed.offline_eval.fail_on_threshold
    assert changed.train.cv_folds == 7
    assert changed.corpus.sample_count == 1000

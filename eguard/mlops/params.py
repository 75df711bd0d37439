"""`params.yaml` as one typed value: an unknown key, a wrong unit or a value out of range is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eguard.errors import ConfigError
from eguard.mlops.bundle import BundleParams
from eguard.mlops.calibrate import CalibrateParams
from eguard.mlops.corpus import CorpusParams
from eguard.mlops.evaluate import EvaluateParams
from eguard.mlops.feature_gate import FeatureGateParams
from eguard.mlops.ingest import IngestParams
from eguard.mlops.labels import LabelGateParams
from eguard.mlops.publish import PublishParams
from eguard.mlops.replay import ReplayParams
from eguard.mlops.rules import RulesParams
from eguard.mlops.train import TrainParams
from eguard.settings import MlopsSettings


class BaseParams(BaseModel):
    """What every stage shares."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=20260301, ge=0, description="Seed of every random number in the pipeline.")


class ReportParams(BaseModel):
    """What the report stage executes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    notebooks: tuple[str, ...] = Field(description="Notebooks to execute, in the order of the report.")
    title: str = Field(default="eGuard evidence report", description="Title of the PDF.")


class Params(BaseModel):
    """The whole of `params.yaml`: one section a stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: BaseParams
    ingest: IngestParams
    rules: RulesParams
    replay: ReplayParams
    corpus: CorpusParams
    label_gate: LabelGateParams
    feature_gate: FeatureGateParams
    train: TrainParams
    offline_eval: EvaluateParams
    calibrate: CalibrateParams
    bundle: BundleParams
    publish: PublishParams
    report: ReportParams


def load_params(path: Path) -> Params:
    """Read and check a parameter file.

    Raises
    ------
    ConfigError
        The file is missing, not YAML, or a key is unknown, missing or out of range; the message names the key.
    """
    try:
        document: Any = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}", remedy="Restore it: git checkout params.yaml") from error
    try:
        return Params.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{path}: {key}: {first['msg']}",
            remedy=f"Correct {key} in {path}; docs/reference/params.md lists every key.",
            key=key,
        ) from error


def apply_settings(params: Params, settings: MlopsSettings) -> Params:
    """Return the parameters with the machine's environment over them (operations manual 5.2)."""
    corpus = {"sample_count": settings.sample_count, "external_sample_cap": settings.external_sample_cap}
    train = {
        "resource_profile": settings.resource_profile,
        "max_samples": settings.max_samples,
        "cv_folds": settings.cv_folds,
        "l2_grid_points": settings.l2_grid_points,
    }
    gates = {"fail_on_threshold": settings.fail_on_threshold, "fail_on_regression": settings.fail_on_regression}
    return params.model_copy(
        update={
            "corpus": params.corpus.model_copy(update=_given(corpus)),
            "train": params.train.model_copy(update=_given(train)),
            "offline_eval": params.offline_eval.model_copy(update=_given(gates)),
        }
    )


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

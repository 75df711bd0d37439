"""`params.yaml` as one typed value: an unknown key, a wrong unit or a value out of range is refused by name."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from eguard.mlops.beacons import BeaconsParams
from eguard.mlops.bundle import BundleParams
from eguard.mlops.calibrate import CalibrateParams
from eguard.mlops.corpus import CorpusParams
from eguard.mlops.drift_params import DriftParams
from eguard.mlops.evaluate import EvaluateParams
from eguard.mlops.feature_gate import FeatureGateParams
from eguard.mlops.ingest import IngestParams
from eguard.mlops.labels import LabelGateParams
from eguard.mlops.poisoning import PoisoningParams
from eguard.mlops.publish import PublishParams
from eguard.mlops.replay import ReplayParams
from eguard.mlops.rules import RulesParams
from eguard.mlops.section import BaseParams, ReportParams, overridden, read_document, validated
from eguard.mlops.train import TrainParams
from eguard.settings import MlopsSettings


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
    beacons: BeaconsParams
    drift: DriftParams
    poisoning: PoisoningParams
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
    return validated(path, Params, read_document(path))


def apply_settings(params: Params, settings: MlopsSettings) -> Params:
    """Return the parameters with the machine's environment over them (operations manual 5.2)."""
    sections = {name: overridden(name, getattr(params, name), settings) for name in Params.model_fields}
    return params.model_copy(update=sections)

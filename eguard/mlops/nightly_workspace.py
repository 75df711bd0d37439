"""A night's own DVC workspace: its graph, its parameters, and no link to anything outside its folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from eguard.mlops.bundle import BundleParams
from eguard.mlops.calibrate import CalibrateParams
from eguard.mlops.corpus import CorpusParams
from eguard.mlops.evaluate import EvaluateParams
from eguard.mlops.feature_gate import FeatureGateParams
from eguard.mlops.labels import LabelGateParams
from eguard.mlops.nightly_inputs import PREVIOUS_MODEL, PREVIOUS_SNAPSHOT, SHIPPED_CORPUS, Inputs
from eguard.mlops.resources import detect_machine, resolve_profile
from eguard.mlops.section import BaseParams, overridden, read_document, validated
from eguard.mlops.train import TrainParams
from eguard.settings import MlopsSettings

#: Sections of a night's parameters, by stage.
SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "corpus": CorpusParams,
    "label_gate": LabelGateParams,
    "feature_gate": FeatureGateParams,
    "train": TrainParams,
    "offline_eval": EvaluateParams,
    "calibrate": CalibrateParams,
    "bundle": BundleParams,
}
#: A workspace without a version control system, a cache or anything told to anybody.
_DVC_CONFIG: Final = (
    "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n    site_cache_dir = {}\n"
)
#: Stages that read what may not be there, and what that is.
_OPTIONAL: Final = {
    "feature_gate": (PREVIOUS_SNAPSHOT,),
    "offline_eval": (PREVIOUS_MODEL, SHIPPED_CORPUS),
}


def night_params(inputs: Inputs, settings: MlopsSettings, model_version: str) -> dict[str, Any]:
    """Return the parameters of a night, whole: the pipeline's, the night's own over them, the environment over both.

    The resource profile is resolved here, so that the run can be made again on another machine.

    Raises
    ------
    ConfigError
        A key is unknown or out of range; the message names it.
    """
    path = inputs.code / "pipelines" / "nightly" / "params.yaml"
    own = read_document(path)
    below: dict[str, Any] = {}
    if inputs.is_external and (inputs.code / "params.yaml").is_file():
        below = read_document(inputs.code / "params.yaml")
    base = validated(path, BaseParams, {**below.get("base", {}), **own.get("base", {})}, prefix="base")
    document: dict[str, Any] = {"base": base.model_dump(mode="json")}
    for name, model in SECTIONS.items():
        merged = {**(below.get(name) or {}), **(own.get(name) or {})}
        section = overridden(name, validated(path, model, merged, prefix=name), settings)
        document[name] = section.model_dump(mode="json")
    train = document["train"]
    train["model_version"] = model_version
    train["resource_profile"] = resolve_profile(train["resource_profile"], detect_machine()).name
    return document


def make_workspace(root: Path, inputs: Inputs, params: dict[str, Any], *, has_base: bool) -> list[str]:
    """Write a workspace's graph, parameters and DVC settings; return its stages in order.

    Without the files of a bundle there is no stage that builds one. What a stage reads only where it exists is a
    dependency where it exists.
    """
    graph = read_document(inputs.code / "pipelines" / "nightly" / "dvc.yaml")
    stages: dict[str, Any] = graph["stages"]
    if not has_base:
        stages.pop("bundle", None)
    for name, paths in _OPTIONAL.items():
        stages[name]["deps"] += [path.as_posix() for path in paths if (root / path).exists()]
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=True))
    (root / ".dvc").mkdir(exist_ok=True)
    (root / ".dvc" / "config").write_text(_DVC_CONFIG.format(root.resolve() / ".dvc" / "site"))
    return list(stages)


def stage_environment(inputs: Inputs) -> dict[str, str]:
    """Return the environment of a night's stages: this one, without eGuard's settings, for parameters hold them all.

    The database's password is among those settings.
    """
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("EGUARD_")}
    searched = [str(inputs.code), *filter(None, [environment.get("PYTHONPATH")])]
    return environment | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(searched),
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
        "MPLBACKEND": "agg",
    }

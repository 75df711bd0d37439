"""What a night starts from besides the database: the pipeline's files, shipped data, the bundle in service, last night.

Each is looked for in one order and described in the report, so that nobody has to guess what a model was made of.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from eguard.bundle.manifest import read_targets
from eguard.bundle.promotion import read_served
from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.content import CALIBRATION_FILE, FLEET_CONTEXT_FILE, INDICATORS_FILE, MODEL_FILE, RULES_FILE
from eguard.detection.feature_contract import contract_sha256
from eguard.detection.model import load_model
from eguard.errors import ConfigError, ModelError
from eguard.mlops.workspace import Workspace, write_artefact
from eguard.settings import NightlySettings
from eguard.wire.canonical import canonical_sha256

MODEL_NAME: Final = "signature-ml-model.json"
SNAPSHOT_NAME: Final = "signature-ml-feature-snapshot-report.json"
#: Where a run looks for last night's model and snapshot, relative to its workspace.
PREVIOUS_MODEL: Final = Path("previous/signature-ml-model.json")
PREVIOUS_SNAPSHOT: Final = Path("previous/feature-snapshot.json")
SHIPPED_CORPUS: Final = Path("data/shipped/corpus.parquet")
_CORPUS: Final = Path("data/processed/corpus.parquet")
#: Files of a bundle that retraining does not make, by where the bundle stage takes them from.
_BASE_FILES: Final = {
    RULES_FILE: "rules.json",
    INDICATORS_FILE: "indicators.json",
    FLEET_CONTEXT_FILE: "fleet-context.json",
}
#: False-alarm rate of a beacon threshold that was never calibrated; it only advises then.
_BEACON_ALPHA: Final = 0.01


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where a run's inputs come from; None where there is none of it.

    Parameters
    ----------
    code : Path
        Folder that holds the package ``pipelines``.
    is_external : bool
        Whether that is a workspace of the operator's and not the installed one.
    shipped : Path or None
        Corpus of the shipped data.
    bundle : dict or None
        Files of the bundle in service, or of the one that the workspace has built.
    bundle_from : str
        Where the bundle came from.
    """

    code: Path
    is_external: bool
    shipped: Path | None
    bundle: Mapping[str, bytes] | None = field(repr=False)
    bundle_from: str


def find_inputs(settings: NightlySettings, repository: Path | None) -> Inputs:
    """Look for a run's inputs.

    The pipeline is the installed one, or that of ``EGUARD_ML_AGENT_REPO_PATH``. Shipped data are the corpus that the
    pipeline has made there, or the file ``shipped/corpus.parquet`` of the output folder. The bundle is the one that
    agents are served, else the one that the pipeline has built.

    Raises
    ------
    ConfigError
        The workspace is none, or is being written by another run.
    BundleError
        A file of the served repository is not what its metadata say.
    """
    code = settings.agent_repo_path or installed_pipeline()
    if not (code / "pipelines" / "nightly" / "dvc.yaml").is_file():
        raise ConfigError(
            f"{code} is no pipeline workspace: it has no pipelines/nightly/dvc.yaml",
            remedy="Correct or unset EGUARD_ML_AGENT_REPO_PATH.",
        )
    candidates = [settings.output_root / "shipped" / "corpus.parquet", code / _CORPUS]
    if settings.agent_repo_path is not None:
        candidates.reverse()
    shipped = next((path for path in candidates if path.is_file()), None)
    if shipped is not None and shipped == code / _CORPUS:
        _refuse_half_made(code, _CORPUS)
    bundle, bundle_from = None, "none"
    if repository is not None and (repository / "metadata" / "timestamp.json").is_file():
        bundle, bundle_from = read_served(repository).files, str(repository)
    elif (code / "bundles" / "targets").is_dir():
        bundle, bundle_from = read_targets(code / "bundles" / "targets"), str(code / "bundles" / "targets")
    return Inputs(code, settings.agent_repo_path is not None, shipped, bundle, bundle_from)


def installed_pipeline() -> Path:
    """Return the folder in which the package ``pipelines`` is installed.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    found = importlib.util.find_spec("pipelines")
    if found is None or found.origin is None:
        raise ConfigError(
            "the package pipelines is not installed", remedy="Install eguard[mlops], or set EGUARD_ML_AGENT_REPO_PATH."
        )
    return Path(found.origin).resolve().parents[1]


def _refuse_half_made(code: Path, output: Path) -> None:
    """Refuse an output that differs from what the workspace's last whole run wrote down: another run writes it now."""
    lock = code / "dvc.lock"
    try:
        stages = yaml.safe_load(lock.read_text())["stages"] if lock.is_file() else {}
    except (OSError, yaml.YAMLError, TypeError, KeyError):
        stages = {}
    noted = {out["path"]: out.get("md5") for stage in stages.values() for out in stage.get("outs", [])}
    wanted = noted.get(output.as_posix())
    if wanted is not None:
        found = hashlib.md5((code / output).read_bytes(), usedforsecurity=False).hexdigest()
        if found != wanted:
            raise ConfigError(
                f"{code / output} is not what the workspace's last run wrote: a run is under way, or was broken off",
                remedy=f"Let it end, or run `dvc repro` in {code}; the next night takes what is there then.",
            )


def place_base(inputs: Inputs, to: Workspace) -> bool:
    """Put what retraining does not make into a run's workspace; return whether a bundle can be built there."""
    bundle = inputs.bundle or {}
    beacon = BeaconCalibration(None, _BEACON_ALPHA, 0, insufficient_calibration=True)
    if CALIBRATION_FILE in bundle:
        # One of another release is not taken: the default only advises.
        with suppress(ModelError, ValueError, KeyError, TypeError):
            beacon = BeaconCalibration.from_json(json.loads(bundle[CALIBRATION_FILE])["beacon"])
    write_artefact(to.models / "beacon-calibration.json", beacon.to_json())
    to.interim.mkdir(parents=True, exist_ok=True)
    for name, place in _BASE_FILES.items():
        if name in bundle:
            (to.interim / place).write_bytes(bundle[name])
    return set(_BASE_FILES) <= bundle.keys()


def place_previous(inputs: Inputs, latest: Path, to: Workspace, *, ignore_snapshot: bool = False) -> str:
    """Put the model to compare with into a run's workspace, and say which it is.

    It is the last night's that succeeded, else the one in service; one of another feature contract cannot score these
    rows and is not compared with. Snapshots of features are compared between nights alone: shipped data never look
    like a fleet's.
    """
    folder = to.root / PREVIOUS_MODEL.parent
    folder.mkdir(parents=True, exist_ok=True)
    if (latest / SNAPSHOT_NAME).is_file() and not ignore_snapshot:
        (to.root / PREVIOUS_SNAPSHOT).write_bytes((latest / SNAPSHOT_NAME).read_bytes())
    models = []
    if (latest / MODEL_NAME).is_file():
        models.append(("last night", (latest / MODEL_NAME).read_bytes()))
    if inputs.bundle is not None and MODEL_FILE in inputs.bundle:
        models.append(("bundle in service", inputs.bundle[MODEL_FILE]))
    for name, data in models:
        try:
            load_model(json.loads(data), expected_contract_sha256=contract_sha256())
        except (ModelError, ValueError):
            continue
        (to.root / PREVIOUS_MODEL).write_bytes(data)
        return name
    return "nothing: there is no model of this feature contract" if models else "nothing: there is no model yet"


def shipped_reason(path: Path) -> str:
    """Return why a shipped corpus cannot be mixed in; empty if it can. The schema of its features lies beside it."""
    schema = path.with_name("feature-schema.json")
    if not schema.is_file():
        return f"{schema} is missing: it says what the columns mean"
    try:
        found = canonical_sha256(json.loads(schema.read_bytes()))
    except ValueError:
        return f"{schema} is no JSON"
    return "" if found == contract_sha256() else "its features are of another contract; make it again: dvc repro"

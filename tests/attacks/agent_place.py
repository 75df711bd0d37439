"""A repository with small whole bundles, and an agent's state beside it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eguard.agent.bundles import BundleKeeper
from eguard.bundle import MANIFEST_NAME, PROVENANCE_NAME, Manifest, Repository, describe_file, generate_keys
from eguard.detection.content import load_content
from eguard.detection.features import FEATURE_NAMES, N_FEATURES, contract, contract_sha256
from eguard.detection.fleet_context import FleetContext
from eguard.detection.gate import CalibrationGroup, calibration_to_json
from eguard.detection.model import load_model
from eguard.wire.canonical import canonical_json

SELECTOR = {"product": "windows", "category": "process_creation", "service": "", "event_codes": []}
RULE = {"id": "rule", "title": "t", "level": "high", "status": "test", "author": "a", "path": "r.yml"}
RULE |= {"licence": "DRL-1.1", "tags": ["attack.discovery"], "selector": SELECTOR}
RULE |= {"predicate": ["endswith", "Image", ["\\whoami.exe"]]}


def model_document(version, coefficient=8.0):
    coefficients = [0.0] * N_FEATURES
    coefficients[FEATURE_NAMES.index("rule_precision_prior")] = coefficient
    parameters = {"coefficients": coefficients, "center": [0.0] * N_FEATURES, "scale": [1.0] * N_FEATURES}
    return {
        "format": 1,
        "kind": "logistic",
        "version": version,
        "contract_sha256": contract_sha256(),
        "n_features": N_FEATURES,
        "threshold": 0.5,
        "platt": {"slope": 1.0, "intercept": 0.0},
        "tables": {"class_risk": [0.0] * 8, "rule_precision": {"S-Bad": 1.0}, "rule_precision_default": 0.0},
        "parameters": {**parameters, "intercept": -4.0},
    }


def release(version="one", *, promoted=True, counts=None, **replaced):
    """Return a small whole bundle; `replaced` has raw bytes by the stem of a file's name."""
    model = model_document(version)
    groups = {"pooled": CalibrationGroup(0.9, "calibrated", np.linspace(0.0, 0.9, 99))}
    calibration = calibration_to_json(
        groups,
        alpha=0.01,
        guarantee="marginal",
        model_digest=load_model(model).digest,
        contract_sha256=contract_sha256(),
    )
    documents = {
        "rules.json": {"format": 1, "rules": [RULE], "prefilter": {"sekurlsa::": 2}},
        "indicators.json": {"format": 1, "indicators": []},
        "feature-schema.json": contract(),
        "models/fleet-context.json": FleetContext().to_json(),
        "models/signature-ml-model.json": model,
        "models/calibration.json": calibration,
    }
    files = {name: canonical_json(document) for name, document in documents.items()}
    counted = {**load_content(files).counts, **(counts or {})}
    files |= {name: replaced[Path(name).stem] for name in files if Path(name).stem in replaced}
    manifest = Manifest(
        format=1,
        model_version=version,
        feature_contract_sha256=contract_sha256(),
        promoted=promoted,
        files={name: describe_file(data, counted[name]) for name, data in files.items()},
    )
    return {**files, MANIFEST_NAME: manifest.to_bytes(), PROVENANCE_NAME: b'{"_type":"statement"}'}


@dataclass
class Place:
    """A repository and an agent's state."""

    folder: Path

    release = staticmethod(release)
    model_document = staticmethod(model_document)

    @property
    def state(self):
        return self.folder / "state"

    @property
    def directory(self):
        return self.folder / "repository"

    @property
    def kept_folders(self):
        """The copies of bundles that the agent has, by name."""
        return {path.name: path for path in (self.state / "kept").iterdir() if path.is_dir()}

    def repository(self, **options):
        return Repository(self.directory, generate_keys(self.folder / "keys"), **options)

    def publish(self, *arguments, **options):
        self.repository().publish(release(*arguments, **options))

    def keeper(self, root=None, **options):
        options = {"max_load_memory_bytes": 256 << 20, "max_load_seconds": 30.0, **options}
        return BundleKeeper(self.state, str(self.directory), root, **options)

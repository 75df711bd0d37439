"""From a bundle's verified bytes to what an engine detects with: each file is read, checked with the others, counted.

The counts are what *this* loader understood; whoever verified the bundle compares them with its manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from eguard.detection.feature_contract import contract, contract_sha256
from eguard.detection.fleet_context import FleetContext
from eguard.detection.gate import ConformalGate
from eguard.detection.indicators import IndicatorSet
from eguard.detection.layers import DetectionContent
from eguard.detection.model import Model, load_model
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rules import RuleSet
from eguard.errors import ModelError
from eguard.wire.canonical import canonical_sha256

RULES_FILE: Final = "rules.json"
INDICATORS_FILE: Final = "indicators.json"
SCHEMA_FILE: Final = "feature-schema.json"
FLEET_CONTEXT_FILE: Final = "models/fleet-context.json"
MODEL_FILE: Final = "models/signature-ml-model.json"
CALIBRATION_FILE: Final = "models/calibration.json"
_FILES: Final = (SCHEMA_FILE, INDICATORS_FILE, CALIBRATION_FILE, FLEET_CONTEXT_FILE, MODEL_FILE, RULES_FILE)


@dataclass(frozen=True, slots=True)
class LoadedContent:
    """A bundle as an engine takes it. `counts` gives the records read from each file."""

    detection: DetectionContent
    model: Model
    gate: ConformalGate
    counts: dict[str, int]

    @property
    def model_version(self) -> str:
        """Version of the classifier."""
        return self.model.version


def load_content(files: Mapping[str, bytes]) -> LoadedContent:
    """Read a bundle's files by name.

    Raises
    ------
    ModelError
        A file is missing or not JSON; the schema is not this version's; model, calibration and schema do not belong
        together.
    RuleError
        Rules or indicators are malformed.
    """
    documents = {name: _parse(name, files) for name in _FILES}
    schema, rule_document = documents[SCHEMA_FILE], documents[RULES_FILE]
    if canonical_sha256(schema) != contract_sha256():
        raise ModelError(
            "the bundle's feature schema is not the one that this version extracts",
            remedy="Install the version of eGuard that the bundle was built with, or build the bundle anew.",
        )
    model = load_model(documents[MODEL_FILE], expected_contract_sha256=contract_sha256())
    gate = ConformalGate.from_json(documents[CALIBRATION_FILE], model_digest=model.digest)
    content = DetectionContent(
        indicators=IndicatorSet.from_json(documents[INDICATORS_FILE]),
        rules=RuleSet.from_json(rule_document, text=files[RULES_FILE]),
        prefilter=CommandLinePrefilter.from_json(rule_document),
        fleet=FleetContext.from_json(documents[FLEET_CONTEXT_FILE]),
        beacon=gate.beacon,
    )
    counts = {
        RULES_FILE: content.rules.n_listed,
        INDICATORS_FILE: len(content.indicators),
        SCHEMA_FILE: len(schema["features"]) if schema == contract() else 0,
        FLEET_CONTEXT_FILE: _count_context(content.fleet),
        MODEL_FILE: len(model.tables.rule_precision),
        CALIBRATION_FILE: len(documents[CALIBRATION_FILE]["groups"]),
    }
    return LoadedContent(content, model, gate, counts)


def _parse(name: str, files: Mapping[str, bytes]) -> Any:
    if name not in files:
        raise ModelError(f"the bundle lacks {name}", file=name)
    try:
        return json.loads(files[name])
    except ValueError as error:
        raise ModelError(f"{name} is not JSON: {error}", file=name) from error


def _count_context(fleet: FleetContext) -> int:
    by_parent = sum(map(len, fleet.children.values()))
    return len(fleet.rule_hosts) + len(fleet.port_ranks) + len(fleet.destination_hosts) + by_parent

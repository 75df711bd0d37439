"""From a bundle's verified bytes to what an engine detects with: each file is read, checked with the others, counted.

The counts are what *this* loader understood; whoever verified the bundle compares them with its manifest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
    documents = {name: _parse(name, files) for name in sorted(_READERS)}
    if canonical_sha256(documents[SCHEMA_FILE]) != contract_sha256():
        raise ModelError(
            "the bundle's feature schema is not the one that this version extracts",
            remedy="Install the version of eGuard that the bundle was built with, or build the bundle anew.",
        )
    model = load_model(documents[MODEL_FILE], expected_contract_sha256=contract_sha256())
    gate = ConformalGate.from_json(documents[CALIBRATION_FILE], model_digest=model.digest)
    rules = documents[RULES_FILE]
    content = DetectionContent(
        indicators=IndicatorSet.from_json(documents[INDICATORS_FILE]),
        rules=RuleSet.from_json(rules),
        prefilter=CommandLinePrefilter.from_json(rules),
        fleet=FleetContext.from_json(documents[FLEET_CONTEXT_FILE]),
        beacon=gate.beacon,
    )
    counts = {name: reader(documents[name]) for name, reader in _READERS.items()}
    return LoadedContent(content, model, gate, counts)


def _parse(name: str, files: Mapping[str, bytes]) -> Any:
    if name not in files:
        raise ModelError(f"the bundle lacks {name}", file=name)
    try:
        return json.loads(files[name])
    except ValueError as error:
        raise ModelError(f"{name} is not JSON: {error}", file=name) from error


def _count_context(document: Any) -> int:
    fleet = FleetContext.from_json(document)
    by_parent = sum(map(len, fleet.children.values()))
    return len(fleet.rule_hosts) + len(fleet.port_ranks) + len(fleet.destination_hosts) + by_parent


#: How many records each file holds, as its reader understands them.
_READERS: Final[dict[str, Callable[[Any], int]]] = {
    RULES_FILE: lambda document: len(RuleSet.from_json(document, include_hunting=True)),
    INDICATORS_FILE: lambda document: len(IndicatorSet.from_json(document)),
    SCHEMA_FILE: lambda document: len(document["features"]) if document == contract() else 0,
    FLEET_CONTEXT_FILE: _count_context,
    MODEL_FILE: lambda document: len(load_model(document).tables.rule_precision),
    CALIBRATION_FILE: lambda document: len(document["groups"]),
}

"""Where a pipeline's files live, and how a stage writes its JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eguard.wire.canonical import canonical_json


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders of one pipeline checkout, all below `root`."""

    root: Path = Path()

    @property
    def raw(self) -> Path:
        """Shipped or exported data as it came; immutable."""
        return self.root / "data" / "raw"

    @property
    def interim(self) -> Path:
        """Parsed and replayed data between stages."""
        return self.root / "data" / "interim"

    @property
    def processed(self) -> Path:
        """The corpus a model is trained on."""
        return self.root / "data" / "processed"

    @property
    def models(self) -> Path:
        """Model, metadata and calibration."""
        return self.root / "models"

    @property
    def reports(self) -> Path:
        """Reports of stages and executed notebooks."""
        return self.root / "reports"

    @property
    def bundles(self) -> Path:
        """Unsigned targets and the signed repository."""
        return self.root / "bundles"


def write_report(path: Path, report: Any) -> None:
    """Write a JSON report for people: sorted keys, two blanks of indentation, no NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_artefact(path: Path, value: Any) -> None:
    """Write JSON that is hashed or signed: canonical bytes (`eguard.wire.canonical`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(canonical_json(value))


def read_json(path: Path) -> Any:
    """Read a JSON file that a stage wrote."""
    return json.loads(path.read_text())

"""Stage `bundle`: the unsigned bundle, its manifest and its provenance; the same bytes wherever it is built.

What varies between machines (clock, host name, processor) is kept out. The revision in the provenance is that of the
code that built it; uncommitted changes are said.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict

from eguard import __version__
from eguard.bundle.manifest import MANIFEST_FORMAT, MANIFEST_NAME, PROVENANCE_NAME, Manifest, describe_file
from eguard.bundle.provenance import build_statement
from eguard.detection.content import load_content
from eguard.detection.feature_contract import contract, contract_sha256
from eguard.errors import BundleError
from eguard.mlops.workspace import Workspace, read_json, write_report
from eguard.wire.canonical import canonical_json

_CODE: Final = ("eguard", "pipelines", "params.yaml", "requirements.lock")


class BundleParams(BaseModel):
    """The bundle stage has nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def run(
    params: BundleParams,  # noqa: ARG001 - every stage has this signature
    *,
    seed: int,  # noqa: ARG001
    workspace: Workspace,
    progress: object = None,  # noqa: ARG001
) -> dict[str, Any]:
    """Write ``bundles/targets/`` and ``reports/bundle.json``.

    Raises
    ------
    BundleError
        A part of the bundle is missing.
    ModelError, RuleError
        A part does not load, or parts do not belong together.
    """
    files = _collect(workspace)
    content = load_content(files)
    evaluation = read_json(workspace.reports / "signature-ml-offline-eval-report.json")
    manifest = Manifest(
        format=MANIFEST_FORMAT,
        model_version=content.model_version,
        feature_contract_sha256=contract_sha256(),
        promoted=bool(evaluation["promoted"]),
        files={name: describe_file(data, content.counts[name]) for name, data in sorted(files.items())},
    )
    files[MANIFEST_NAME] = manifest.to_bytes()
    statement = build_statement(
        subjects=files,
        inputs=_input_digests(workspace),
        parameters=yaml.safe_load((workspace.root / "params.yaml").read_text()),
        revision=code_revision(workspace.root),
        version=__version__,
    )
    files[PROVENANCE_NAME] = canonical_json(statement)
    targets = workspace.bundles / "targets"
    shutil.rmtree(targets, ignore_errors=True)
    for name, data in sorted(files.items()):
        path = targets / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    report = {
        "model_version": manifest.model_version,
        "promoted": manifest.promoted,
        "records": content.counts,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
        "length_bytes": {name: len(data) for name, data in sorted(files.items())},
    }
    write_report(workspace.reports / "bundle.json", report)
    return report


def _collect(workspace: Workspace) -> dict[str, bytes]:
    """Read the bundle's parts from where the earlier stages left them."""
    sources = {
        "rules.json": workspace.interim / "rules.json",
        "indicators.json": workspace.interim / "indicators.json",
        "models/fleet-context.json": workspace.interim / "fleet-context.json",
        "models/signature-ml-model.json": workspace.models / "signature-ml-model.json",
        "models/calibration.json": workspace.models / "calibration.json",
    }
    missing = [str(path) for path in sources.values() if not path.exists()]
    if missing:
        raise BundleError(f"the bundle lacks {', '.join(missing)}", remedy="Run the stages before it: dvc repro bundle")
    files = {name: path.read_bytes() for name, path in sources.items()}
    files["feature-schema.json"] = canonical_json(contract())
    return files


def _input_digests(workspace: Workspace) -> dict[str, str]:
    """Return the SHA-256 of every input file, shipped or exported, by path relative to the workspace."""
    digests = {}
    exported = workspace.interim / "adjudications.ndjson"
    for path in (exported, workspace.interim / "features.parquet") if exported.exists() else ():
        digests[path.relative_to(workspace.root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    for folder in (workspace.raw, workspace.root / "data" / "indicators"):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                digests[path.relative_to(workspace.root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def code_revision(root: Path) -> str:
    """Return the commit that the code stands at, with ``+uncommitted`` when files of the build differ from it."""
    git = shutil.which("git")
    if git is None:
        return "unknown"

    def ask(*arguments: str) -> str | None:
        answer = subprocess.run(  # noqa: S603 - fixed arguments
            [git, "-C", str(root.absolute()), *arguments], capture_output=True, text=True, check=False
        )
        return answer.stdout.strip() if answer.returncode == 0 else None

    revision = ask("rev-parse", "HEAD")
    if revision is None:
        return "unknown"
    return f"{revision}+uncommitted" if ask("status", "--porcelain", "--", *_CODE) else revision

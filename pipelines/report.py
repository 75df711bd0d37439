"""Execute the notebooks on the pipeline's results and write the evidence report as HTML and PDF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eguard.evidence.notebooks import render_report
from eguard.mlops.section import ReportParams
from eguard.mlops.workspace import Workspace, read_json
from pipelines.stage import run_stage


def write_evidence_report(
    params: ReportParams,
    *,
    seed: int,
    workspace: Workspace,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Execute the notebooks of `params` and return the files written."""
    bundle = read_json(workspace.reports / "bundle.json")
    written = render_report(
        [workspace.root / "notebooks" / f"{name}.ipynb" for name in params.notebooks],
        parameters={"root": ".", "seed": seed},
        root=workspace.root,
        reports=workspace.reports,
        title=params.title,
        facts={
            "Model": bundle["model_version"],
            "Promoted": "yes" if bundle["promoted"] else "no: it misses a gate; see the offline evaluation",
            "Model SHA-256": bundle["sha256"]["models/signature-ml-model.json"],
            "Seed": str(seed),
        },
        progress=progress,
    )
    return {"files": [str(path) for path in written]}


if __name__ == "__main__":
    run_stage("report", ReportParams, write_evidence_report)

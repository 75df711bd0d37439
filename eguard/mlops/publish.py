"""Stage `publish`: sign the unsigned bundle into the TUF repository."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from eguard.bundle import Manifest, Repository, check_counts, check_files, generate_keys
from eguard.bundle.manifest import MANIFEST_NAME, read_targets
from eguard.detection.content import load_content
from eguard.mlops.workspace import Workspace, write_report


class PublishParams(BaseModel):
    """Where the signing keys lie."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: str = Field(
        default="keys", description="Folder of the signing keys, relative to the workspace; made when absent."
    )


def run(
    params: PublishParams,
    *,
    seed: int,  # noqa: ARG001 - every stage has this signature
    workspace: Workspace,
    progress: object = None,  # noqa: ARG001
) -> dict[str, Any]:
    """Publish ``bundles/targets/`` into ``bundles/repository/`` and write ``reports/publish.json``.

    A bundle is checked as an agent would before it is signed. Unchanged files make no new version.

    Raises
    ------
    BundleError
        The bundle is incomplete or inconsistent, or the repository belongs to other keys.
    """
    files = read_targets(workspace.bundles / "targets")
    manifest = Manifest.from_bytes(files[MANIFEST_NAME])
    check_files(manifest, files)
    check_counts(manifest, load_content(files).counts)
    repository = Repository(workspace.bundles / "repository", generate_keys(workspace.root / params.keys))
    publication = repository.publish(files)
    report = {
        "model_version": manifest.model_version,
        "promoted": manifest.promoted,
        "changed_roles": list(publication.changed_roles),
        "versions": publication.versions,
    }
    write_report(workspace.reports / "publish.json", report)
    return report

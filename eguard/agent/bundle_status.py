"""A bundle that is ready for an engine, and how the one in use stands to its repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eguard.bundle.manifest import Manifest
from eguard.detection.content import LoadedContent

BundleState = Literal["current", "stale", "refused", "none"]


@dataclass(frozen=True, slots=True)
class NewBundle:
    """A bundle ready for an engine.

    `digest` is the SHA-256 of the manifest, `versions` are those of the TUF roles that carried it.
    `manifest.promoted` is false for a bundle whose model missed a quality gate; what that means is the caller's choice.
    """

    digest: str
    manifest: Manifest
    content: LoadedContent
    versions: dict[str, int]


@dataclass(frozen=True, slots=True)
class BundleStatus:
    """How the bundle in use stands to its repository.

    `state` is ``current``; ``stale`` when the repository's metadata have expired, so updates may be withheld;
    ``refused`` when what it offers is not taken; ``none`` before there is any bundle. `refusals_total` counts checks
    that ended in a refusal, `denylisted` the bundles that are not tried again. `is_candidate` says that the bundle in
    use is the candidate, `shadow_digest` which candidate is to be scored with beside it. `refused_digest` is the bundle
    that was refused when it was last offered, `refused_code` the error's. `candidate_error` says why a candidate is not
    taken.
    """

    digest: str = ""
    model_version: str = ""
    promoted: bool = False
    state: BundleState = "none"
    last_error: str = ""
    refusals_total: int = 0
    denylisted: int = 0
    last_checked_unix: float | None = None
    is_candidate: bool = False
    shadow_digest: str = ""
    refused_digest: str = ""
    refused_code: str = ""
    candidate_error: str = ""

"""The bytes of candidates, kept by their SHA-256, so that going back does not depend on a night's folder.

Rules and indicators of many candidates are the same bytes and lie there once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eguard.bundle.manifest import MANIFEST_NAME, PROVENANCE_NAME, Manifest, check_counts, check_files, read_targets
from eguard.bundle.repository import write_durably
from eguard.detection.content import load_content
from eguard.errors import BundleDigestError, BundleError, ConfigError, EguardError, ModelError

FOLDER_NAME: Final = "candidates"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
#: A night's report and its bundle are a few megabytes.
_MAX_REPORT_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class NightlyResult:
    """What the last successful night left: its run, the gates of its evaluation, and its bundle's files by name."""

    run_id: str
    gates: list[dict[str, Any]]
    files: dict[str, bytes]


class CandidateFiles:
    """Files of bundles in one folder.

    Parameters
    ----------
    folder : Path
        Made when the first file is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Keep files durably and return their SHA-256 by name.

        Raises
        ------
        ConfigError
            The disk refused.
        """
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
        try:
            for name, digest in digests.items():
                path = self._folder / digest
                if not path.exists() or path.stat().st_size != len(files[name]):
                    write_durably(path, files[name])
        except OSError as error:
            raise ConfigError(
                f"the candidate's files cannot be kept in {self._folder}: {error.strerror}",
                remedy="Make room on the disk of EGUARD_SERVER_STATE_PATH.",
            ) from error
        return digests

    def read(self, digests: Mapping[str, str]) -> dict[str, bytes]:
        """Return files by name, each compared with its digest.

        Raises
        ------
        BundleError
            One is not there, or its bytes are not those that were kept.
        """
        found = {}
        for name, digest in sorted(digests.items()):
            if not _DIGEST.fullmatch(digest):
                raise BundleDigestError(f"{digest[:80]!r} is no digest of {name}")
            try:
                data = (self._folder / digest).read_bytes()
            except OSError as error:
                raise BundleError(
                    f"the candidate's {name} is not in {self._folder}: {error.strerror}",
                    remedy="Restore the folder from a backup, or publish the bundle's build (eguard bundle publish).",
                ) from error
            if hashlib.sha256(data).hexdigest() != digest:
                raise BundleDigestError(f"the candidate's {name} in {self._folder} is damaged", file=name)
            found[name] = data
        return found


def refusal_of(files: Mapping[str, bytes]) -> EguardError | None:
    """Return why no agent would take a bundle, None if nothing is known against it.

    The same is asked as on agents: digests and lengths, counts of what was read, and that all parts belong together.
    """
    try:
        manifest = Manifest.from_bytes(files[MANIFEST_NAME])
        if PROVENANCE_NAME not in files:
            raise BundleDigestError(f"the bundle lacks {PROVENANCE_NAME}", file=PROVENANCE_NAME)
        check_files(manifest, files)
        content = load_content(files)
        check_counts(manifest, content.counts)
        if content.model_version != manifest.model_version:
            raise ModelError(
                f"the manifest names model {manifest.model_version!r}, the file is {content.model_version!r}"
            )
    except EguardError as error:
        return error
    return None


def latest_night(output_root: Path, is_known: Callable[[str], bool]) -> NightlyResult | None:
    """Return what the last successful night left below `output_root`; None if that is nothing, or a known run's.

    Raises
    ------
    BundleDigestError
        A file is not the one that the night reported.
    """
    try:
        artefacts = (output_root / "latest").resolve(strict=True)  # once: the link may turn while this reads
        with (artefacts / "report.json").open("rb") as stream:
            report = json.loads(stream.read(_MAX_REPORT_BYTES))
        run_id, told = str(report["run_id"]), dict(report["artefacts"])
        gates = [dict(gate) for gate in report.get("offline_eval", {}).get("gates", [])]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no night has succeeded here yet
    if is_known(run_id) or not (artefacts / "bundle").is_dir():
        return None
    files = read_targets(artefacts / "bundle")
    for name, data in sorted(files.items()):
        if hashlib.sha256(data).hexdigest() != told.get(f"bundle/{name}"):
            raise BundleDigestError(f"{name} of run {run_id} is not the file that the run reported", file=name)
    return NightlyResult(run_id, gates, files)

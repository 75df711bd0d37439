"""The manifest: which files make one bundle, with the digest, the length and the number of records of each.

A bundle is its manifest. Files that were signed at different times are accepted together only when one signed manifest
names the digests of all of them, so a model cannot meet the threshold or the schema of another release. The counts are
checked against what a loader really read (count corroboration): a rules file that parses to fewer rules than the
release had is refused although its digest is right, because then the *loader* is wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from eguard.bundle.candidate import check_format
from eguard.errors import BundleDigestError
from eguard.wire.canonical import canonical_json

MANIFEST_NAME: Final = "models/manifest.json"
PROVENANCE_NAME: Final = "models/provenance.json"
MANIFEST_FORMAT: Final = 1
#: Largest file that agents read, far above what there is; TUF compares with signed lengths what comes below it.
MAX_FILE_BYTES: Final = 64 << 20


class ManifestFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a bundle: `records` is what its loader must count (rules, trees, thresholds, ...)."""

    sha256: str
    length_bytes: int
    records: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The files of one bundle by name, and the versions that must agree.

    `promoted` is false while the model misses a quality gate: such a bundle is published for study, and no agent is
    told to take it.
    """

    format: int
    model_version: str
    feature_contract_sha256: str
    promoted: bool
    files: dict[str, ManifestFile]

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form."""
        return canonical_json(msgspec.to_builtins(self))

    @property
    def digest(self) -> str:
        """The name of the bundle: SHA-256 of the manifest's canonical bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest.

        Raises
        ------
        BundleDigestError
            The bytes are no manifest of a format that this version reads.
        """
        check_format(data, MANIFEST_FORMAT, "the bundle's manifest")
        try:
            manifest = msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise BundleDigestError(f"the bundle's manifest cannot be read: {error}") from error
        return manifest


def describe_file(data: bytes, records: int) -> ManifestFile:
    """Return the manifest's line for a file's bytes."""
    return ManifestFile(sha256=hashlib.sha256(data).hexdigest(), length_bytes=len(data), records=records)


def check_files(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Compare a bundle's bytes with its manifest.

    Raises
    ------
    BundleDigestError
        A file is missing, unlisted, larger than agents read, or its length or digest differs.
    """
    present = files.keys() - {MANIFEST_NAME, PROVENANCE_NAME}
    if missing := manifest.files.keys() - present:
        raise BundleDigestError(f"the bundle lacks {', '.join(sorted(missing))}", files=sorted(missing))
    if unlisted := present - manifest.files.keys():
        raise BundleDigestError(
            f"the bundle's manifest does not list {', '.join(sorted(unlisted))}", files=sorted(unlisted)
        )
    for name, data in sorted(files.items()):
        if len(data) > MAX_FILE_BYTES:
            raise BundleDigestError(
                f"{name} has {len(data):,} bytes, an agent takes at most {MAX_FILE_BYTES:,}",
                remedy="Look at what the build put into it; rules and models have a few megabytes.",
                file=name,
            )
    for name, expected in sorted(manifest.files.items()):
        digest = hashlib.sha256(files[name]).hexdigest()
        if digest != expected.sha256 or len(files[name]) != expected.length_bytes:
            raise BundleDigestError(
                f"{name} is not the file that the manifest names: SHA-256 {digest[:16]}…, expected "
                f"{expected.sha256[:16]}…",
                remedy="Fetch the bundle again; if it stays so, the release mixes files of two builds.",
                file=name,
                expected=expected.sha256,
                found=digest,
            )


def check_counts(manifest: Manifest, counted: Mapping[str, int]) -> None:
    """Compare what a loader read from each file with what the release held.

    Raises
    ------
    BundleDigestError
        A count differs, or a listed file was not counted.
    """
    for name, expected in sorted(manifest.files.items()):
        if counted.get(name) != expected.records:
            raise BundleDigestError(
                f"{name}: the loader counts {counted.get(name)} records, the release had {expected.records}",
                remedy="Update eGuard on this machine: its loader does not understand this bundle.",
                file=name,
                expected=expected.records,
                found=counted.get(name),
            )


def read_targets(directory: Path) -> dict[str, bytes]:
    """Read every file below an unsigned targets folder, by name relative to it.

    Raises
    ------
    BundleDigestError
        The folder does not exist or holds no manifest.
    """
    files = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    if MANIFEST_NAME not in files:
        raise BundleDigestError(
            f"{directory} holds no {MANIFEST_NAME}",
            remedy="Build the bundle first: `make demo`, or `dvc repro bundle`.",
            path=str(directory),
        )
    return files

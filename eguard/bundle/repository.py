"""The TUF repository that carries bundles: the release engineer's side.

Roles: root (two of three keys), targets (release key: rules, indicators, schema, and the delegation of ``models/*``),
nightly (the delegated role, so that retraining needs no release key), snapshot and timestamp. Every publication raises
versions and never rewrites a file that a client may already have fetched; ``timestamp.json`` is replaced last, so a
client sees either the old release or the new one. Files are fsynced before they are renamed into place.

References
----------
The Update Framework specification 1.0; python-tuf.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import Key
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from eguard.bundle.keys import ROOT_THRESHOLD, Signers
from eguard.bundle.manifest import PROVENANCE_NAME
from eguard.bundle.provenance import sign_statement
from eguard.errors import BundleError

NIGHTLY_PATHS: Final = "models/*"
ENVELOPE_NAME: Final = "provenance.dsse.json"
#: How long clients may rely on each role's metadata before they call the repository stale.
LIFETIMES: Final[dict[str, timedelta]] = {
    "root": timedelta(days=365),
    "targets": timedelta(days=90),
    "nightly": timedelta(days=30),
    "snapshot": timedelta(days=2),
    "timestamp": timedelta(days=2),
}
_SERIALIZER: Final = JSONSerializer(compact=False)


@dataclass(frozen=True, slots=True)
class Publication:
    """What `Repository.publish` did: the roles whose versions rose (none when nothing had changed) and the versions."""

    changed_roles: tuple[str, ...]
    versions: dict[str, int]


def write_durably(path: Path, data: bytes) -> None:
    """Write `data` so that after a power cut `path` holds either its old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    if sys.platform != "win32":  # there folders cannot be opened; NTFS writes names to a journal of its own
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Repository:
    """A TUF repository in a folder with ``metadata/`` and ``targets/``.

    Parameters
    ----------
    directory : Path
        The repository's folder.
    signers : Signers
        Keys of every role (`eguard.bundle.keys`).
    now : datetime, optional
        The time that expiry dates count from; the present by default.
    """

    def __init__(self, directory: Path, signers: Signers, *, now: datetime | None = None) -> None:
        self.directory = directory
        self.metadata_dir = directory / "metadata"
        self.targets_dir = directory / "targets"
        self._signers = signers
        self._now = (now or datetime.now(UTC)).replace(microsecond=0)

    @property
    def exists(self) -> bool:
        """Whether a release was ever published here."""
        return (self.metadata_dir / "timestamp.json").exists()

    def create(self) -> None:
        """Write the root metadata, an empty release and its delegation. Nothing is done when it exists.

        Raises
        ------
        BundleError
            The repository exists but was signed with other keys.
        """
        if self.exists:
            self._check_keys(self._load("root"))
            return
        root = Metadata(Root(expires=self._expiry("root"), consistent_snapshot=True))
        for role in ("root", "targets", "snapshot", "timestamp"):
            for signer in self._signers[role]:
                root.signed.add_key(signer.public_key, role)
        root.signed.roles["root"].threshold = ROOT_THRESHOLD
        targets = Metadata(Targets(expires=self._expiry("targets")))
        nightly_keys: dict[str, Key] = {
            signer.public_key.keyid: signer.public_key for signer in self._signers["nightly"]
        }
        delegated = DelegatedRole("nightly", sorted(nightly_keys), 1, terminating=True, paths=[NIGHTLY_PATHS])
        targets.signed.delegations = Delegations(nightly_keys, {"nightly": delegated})
        nightly = Metadata(Targets(expires=self._expiry("nightly")))
        snapshot = Metadata(Snapshot(expires=self._expiry("snapshot")))
        snapshot.signed.meta = {"targets.json": MetaFile(1), "nightly.json": MetaFile(1)}
        timestamp = Metadata(Timestamp(expires=self._expiry("timestamp"), snapshot_meta=MetaFile(1)))
        for role_name, metadata in (
            ("root", root),
            ("targets", targets),
            ("nightly", nightly),
            ("snapshot", snapshot),
            ("timestamp", timestamp),
        ):
            self._write(role_name, metadata)

    def publish(self, files: Mapping[str, bytes]) -> Publication:
        """Make `files` the repository's release.

        A role whose files are unchanged keeps its version. When nothing changed, snapshot and timestamp are
        renewed only if half of their lifetime is over.

        Raises
        ------
        BundleError
            The repository's metadata is damaged or was signed with other keys.
        """
        self.create()
        changed: list[str] = []
        for role in ("targets", "nightly"):
            wanted = {name: data for name, data in files.items() if (role == "nightly") == name.startswith("models/")}
            metadata = self._load(role)
            listed = {name: TargetFile.from_data(name, data) for name, data in sorted(wanted.items())}
            if metadata.signed.targets != listed:
                self._store_targets(wanted)
                metadata.signed.targets = listed
                self._renew(role, metadata)
                changed.append(role)
        if PROVENANCE_NAME in files and changed:
            envelope = sign_statement(files[PROVENANCE_NAME], self._signers["targets"] + self._signers["nightly"])
            write_durably(self.directory / ENVELOPE_NAME, envelope)
        if changed or self._is_ageing():
            self.refresh()
        return Publication(tuple(changed), self.versions())

    def publish_nightly(self, files: Mapping[str, bytes], provenance: bytes) -> Publication:
        """Make `files` the targets of the role `nightly`, and leave the release as it is.

        Needs the signers of nightly, snapshot and timestamp alone. Unchanged files make no new version, unless half of
        the role's lifetime is over.

        Parameters
        ----------
        files : mapping of name to bytes
            All of ``models/*``.
        provenance : bytes
            Statement of the stable model, whose envelope the nightly key signs.

        Raises
        ------
        BundleError
            The repository's metadata is damaged.
        """
        metadata = self._load("nightly")
        listed = {name: TargetFile.from_data(name, data) for name, data in sorted(files.items())}
        is_late = metadata.signed.expires - self._now < LIFETIMES["nightly"] / 2
        is_changed = is_late or metadata.signed.targets != listed
        if is_changed:
            is_another = metadata.signed.targets.get(PROVENANCE_NAME) != listed.get(PROVENANCE_NAME)
            self._store_targets(files)
            metadata.signed.targets = listed
            self._renew("nightly", metadata)
            if is_another:
                write_durably(self.directory / ENVELOPE_NAME, sign_statement(provenance, self._signers["nightly"]))
        if is_changed or self._is_ageing():
            self.refresh()
        return Publication(("nightly",) if is_changed else (), self.versions())

    def refresh(self) -> None:
        """Sign a new snapshot and timestamp, so that clients see a living repository."""
        snapshot = self._load("snapshot")
        for role in ("targets", "nightly"):
            snapshot.signed.meta[f"{role}.json"] = MetaFile(self._load(role).signed.version)
        self._renew("snapshot", snapshot)
        timestamp = self._load("timestamp")
        timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
        self._renew("timestamp", timestamp)

    def versions(self) -> dict[str, int]:
        """Return the current version of each role's metadata."""
        return {role: self.version_of(role) for role in LIFETIMES}

    def version_of(self, role: str) -> int:
        """Return the current version of a role's metadata."""
        return int(self._load(role).signed.version)

    def _check_keys(self, root: Metadata[Any]) -> None:
        known = set(root.signed.keys)
        for role in ("root", "targets", "snapshot", "timestamp"):
            if not known.issuperset(signer.public_key.keyid for signer in self._signers[role]):
                raise BundleError(
                    f"{self.directory} was signed with other {role} keys",
                    remedy="Point --keys at the folder that holds this repository's keys, or start a new repository.",
                    role=role,
                )

    def _is_ageing(self) -> bool:
        remaining = self._load("timestamp").signed.expires - self._now
        return bool(remaining < LIFETIMES["timestamp"] / 2)

    def _expiry(self, role: str) -> datetime:
        return self._now + LIFETIMES[role]

    def _renew(self, role: str, metadata: Metadata[Any]) -> None:
        metadata.signed.version += 1
        metadata.signed.expires = self._expiry(role)
        self._write(role, metadata)

    def _store_targets(self, files: Mapping[str, bytes]) -> None:
        for name, data in sorted(files.items()):
            path = self.targets_dir / name
            stored = path.with_name(f"{hashlib.sha256(data).hexdigest()}.{path.name}")
            write_durably(stored, data)

    def _write(self, role: str, metadata: Metadata[Any]) -> None:
        metadata.signatures.clear()
        for signer in self._signers[role]:
            metadata.sign(signer, append=True)
        name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        write_durably(self.metadata_dir / name, metadata.to_bytes(_SERIALIZER))

    def _load(self, role: str) -> Metadata[Any]:
        if role == "timestamp":
            path = self.metadata_dir / "timestamp.json"
        else:
            versions = [int(path.name.split(".", 1)[0]) for path in self.metadata_dir.glob(f"*.{role}.json")]
            path = self.metadata_dir / f"{max(versions, default=1)}.{role}.json"
        try:
            return Metadata.from_file(str(path))
        except (DeserializationError, RepositoryError, DownloadError, OSError) as error:
            raise BundleError(
                f"the repository's metadata {path} cannot be read: {error}",
                remedy="Restore the repository from a backup; its versions must go on, so do not start it anew.",
                path=str(path),
            ) from error

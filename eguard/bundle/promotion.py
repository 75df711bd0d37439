"""What the online keys may change of a repository: the stable model, and a candidate beside it.

The server signs with the keys `nightly`, `snapshot` and `timestamp`. Rules, indicators and the feature schema are the
release key's: a model of other ones is refused here, and agents would refuse it, too. Every change is a new version;
going back lists the old files under a new number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from eguard.bundle.candidate import LISTING_NAME, CandidateListing, is_of_models, staged_name
from eguard.bundle.keys import load_role_keys
from eguard.bundle.manifest import MANIFEST_NAME, PROVENANCE_NAME, Manifest, check_files
from eguard.bundle.online import ONLINE_ROLES, check_online_keys, locked_repository
from eguard.bundle.repository import LIFETIMES, Publication, Repository
from eguard.errors import BundleDigestError, BundleError, BundleExpiredError, BundleSignatureError

NIGHTLY_ROLE: Final = "nightly"


@dataclass(frozen=True, slots=True)
class StagedCandidate:
    """A candidate's files by name, manifest and provenance among them, and for whom it is."""

    files: Mapping[str, bytes]
    percent: float
    shadow_percent: float

    def listing(self) -> CandidateListing:
        """Return what is listed of it."""
        manifest = Manifest.from_bytes(self.files[MANIFEST_NAME])
        return CandidateListing(
            manifest_sha256=manifest.digest,
            model_version=manifest.model_version,
            percent=self.percent,
            shadow_percent=self.shadow_percent,
        )


@dataclass(frozen=True, slots=True)
class Served:
    """What a repository offers now: the stable release's manifest and files, and the candidate's listing.

    `is_nightly_late` says that half of the lifetime of the models' metadata is over: they want to be signed anew.
    """

    manifest: Manifest
    files: dict[str, bytes]
    listing: CandidateListing | None
    is_nightly_late: bool = False


def read_served(directory: Path, now: datetime | None = None) -> Served:
    """Return what the repository in `directory` offers, as its newest metadata say, compared with the manifest.

    Raises
    ------
    BundleError
        Nothing was published there, or it is damaged.
    """
    targets, nightly = _newest(directory, "targets"), _newest(directory, NIGHTLY_ROLE)
    listed = {**targets.signed.targets, **nightly.signed.targets}
    manifest = Manifest.from_bytes(_read(directory, listed, MANIFEST_NAME))
    names = (*sorted(manifest.files), PROVENANCE_NAME)
    files = {name: _read(directory, listed, name) for name in names}
    check_files(manifest, files)
    listing = CandidateListing.from_bytes(_read(directory, listed, LISTING_NAME)) if LISTING_NAME in listed else None
    left = nightly.signed.expires.replace(tzinfo=UTC) - (now or datetime.now(UTC)).astimezone(UTC)
    is_late = left < LIFETIMES[NIGHTLY_ROLE] / 2
    return Served(manifest, files | {MANIFEST_NAME: manifest.to_bytes()}, listing, is_late)


def publish_models(
    directory: Path,
    keys: Path,
    stable: Mapping[str, bytes],
    candidate: StagedCandidate | None = None,
    *,
    now: datetime | None = None,
) -> Publication:
    """Make `stable` the repository's model, and list `candidate` beside it, or none.

    Parameters
    ----------
    directory : Path
        The repository's folder.
    keys : Path
        Folder with ``nightly-1.pem``, ``snapshot-1.pem`` and ``timestamp-1.pem``.
    stable : mapping of name to bytes
        A whole bundle, manifest and provenance included.
    candidate : StagedCandidate, optional
        Another one, for a share of the agents.
    now : datetime, optional
        The time that expiry dates count from; the present by default.

    Raises
    ------
    BundleDigestError
        Files are not those of their manifest, or not of the release that the release key signed.
    BundleExpiredError
        The offline keys have to sign first: root or release metadata have expired, and agents refuse what is below.
    BundleError
        A key is missing or is not the repository's, its metadata are damaged, or it is being changed already. What
        agents are offered stays as it is.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    signers = {role: load_role_keys(keys, role) for role in (NIGHTLY_ROLE, *ONLINE_ROLES)}
    with locked_repository(directory):
        check_online_keys(directory, {role: signers[role] for role in ONLINE_ROLES})
        released = _newest(directory, "targets")
        _check_nightly_key(released, signers[NIGHTLY_ROLE][0].public_key.keyid)
        _refuse_expired(directory, released, moment)
        wanted = _models_of(stable, released)
        if candidate is not None:
            staged = _models_of(candidate.files, released)
            wanted |= {staged_name(name): data for name, data in staged.items()}
            wanted[LISTING_NAME] = candidate.listing().to_bytes()
        return Repository(directory, signers, now=moment).publish_nightly(wanted, stable[PROVENANCE_NAME])


def _models_of(files: Mapping[str, bytes], released: Metadata[Targets]) -> dict[str, bytes]:
    """Return what the nightly key signs of a bundle whose other files are those of the release."""
    manifest = Manifest.from_bytes(files[MANIFEST_NAME])
    check_files(manifest, files)
    for name, line in sorted(manifest.files.items()):
        if is_of_models(name):
            continue
        signed = released.signed.targets.get(name)
        if signed is None or signed.hashes.get("sha256") != line.sha256 or signed.length != line.length_bytes:
            raise BundleDigestError(
                f"model {manifest.model_version} was built with another {name} than the release that agents are served",
                remedy="Publish its whole bundle with the release key (eguard bundle publish), or retrain on the "
                "present release (eguard ml nightly).",
                file=name,
                expected=None if signed is None else signed.hashes.get("sha256"),
                found=line.sha256,
            )
    return {name: data for name, data in files.items() if is_of_models(name)}


def _check_nightly_key(released: Metadata[Targets], keyid: str) -> None:
    delegations = released.signed.delegations
    roles = None if delegations is None else delegations.roles
    if not roles or NIGHTLY_ROLE not in roles or keyid not in roles[NIGHTLY_ROLE].keyids:
        raise BundleSignatureError(
            "the nightly key is none that the release delegates models to",
            remedy="Put this repository's nightly-1.pem into the server's key folder.",
            role=NIGHTLY_ROLE,
        )


def _refuse_expired(directory: Path, released: Metadata[Targets], moment: datetime) -> None:
    root: Metadata[Root] = _newest(directory, "root")
    for role, metadata in (("root", root), ("targets", released)):
        expires = metadata.signed.expires.replace(tzinfo=UTC)
        if expires <= moment:
            raise BundleExpiredError(
                f"the repository's {role} metadata expired on {expires:%Y-%m-%d}; agents refuse what is below",
                remedy="Sign anew with the offline keys: eguard bundle publish.",
                role=role,
            )


def _newest(directory: Path, role: str) -> Metadata[Any]:
    found = {
        int(number): path
        for path in (directory / "metadata").glob(f"*.{role}.json")
        if (number := path.name.removesuffix(f".{role}.json")).isdecimal()
    }
    if not found:
        raise BundleError(
            f"no bundle was published in {directory}",
            remedy="Publish a first release: eguard bundle publish --repository FOLDER",
            path=str(directory),
        )
    path = found[max(found)]
    try:
        return Metadata.from_file(str(path))
    except (DeserializationError, RepositoryError, OSError) as error:
        raise BundleError(
            f"the repository's metadata {path} cannot be read: {error}",
            remedy="Restore the repository from a backup; its versions must go on, so do not start it anew.",
            path=str(path),
        ) from error


def _read(directory: Path, listed: Mapping[str, Any], name: str) -> bytes:
    if name not in listed:
        raise BundleDigestError(f"the repository's release does not list {name}", file=name)
    path = directory / "targets" / name
    stored = path.with_name(f"{listed[name].hashes['sha256']}.{path.name}")
    try:
        return stored.read_bytes()
    except OSError as error:
        raise BundleError(f"{stored} cannot be read: {error.strerror}", path=str(stored)) from error

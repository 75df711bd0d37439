"""The agent's side of bundle distribution: only verified, complete and not older bytes come out of here.

What is refused, and by which rule:

* wrong or missing signatures, tampered metadata: TUF, `BundleSignatureError`;
* expired metadata (somebody withholds updates): TUF, `BundleExpiredError`;
* older versions than any seen before: TUF, and an own version floor, fsynced before bytes are handed out, because
  TUF's local metadata may be lost in a power cut: `BundleRollbackError`;
* files of two releases mixed, each validly signed: the manifest's digests, `BundleDigestError`;
* bytes that differ from what was signed: TUF and the manifest, `BundleDigestError`.

Nothing is unpacked, nothing is executed. The trusted root is given once, at enrolment (`bootstrap`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tuf.api.exceptions import DownloadError, DownloadHTTPError, LengthOrHashMismatchError
from tuf.api.metadata import Key, Metadata, Root, Targets
from tuf.ngclient import FetcherInterface, Updater

from eguard.bundle.addresses import path_of_address
from eguard.bundle.candidate import LISTING_NAME, CandidateListing, staged_name
from eguard.bundle.manifest import MANIFEST_NAME, PROVENANCE_NAME, Manifest, check_files
from eguard.bundle.refusals import as_bundle_errors
from eguard.bundle.repository import write_durably
from eguard.errors import BundleDigestError, BundleError, BundleRollbackError, BundleSignatureError

FLOOR_NAME: Final = "version-floor.json"
_CHUNK_BYTES: Final = 65536
DEFAULT_MAX_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """A bundle whose every byte is signed, pinned by its manifest and not older than the last one.

    `provenance_keys` are the release and nightly keys that the verified metadata names.
    """

    manifest: Manifest
    files: dict[str, bytes]
    versions: dict[str, int]
    provenance_keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a repository offers: the stable release and, if it was wanted, the candidate.

    `listing` is None without a candidate. `trouble` says why one that is wanted is not here: a damaged candidate, or
    one of a later form, keeps nobody from the stable release.
    """

    stable: VerifiedBundle
    listing: CandidateListing | None = None
    candidate: VerifiedBundle | None = None
    trouble: BundleError | None = None


class LocalFetcher(FetcherInterface):
    """Reads a repository from ``file://`` addresses. A fetcher over mutual TLS takes its place on an agent."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = path_of_address(url)
        try:
            with path.open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError as error:
            raise DownloadHTTPError(f"{path} does not exist", 404) from error
        except OSError as error:
            raise DownloadError(f"cannot read {path}: {error}") from error


class BundleClient:
    """Fetches and verifies bundles from a TUF repository.

    Parameters
    ----------
    state_dir : Path
        Where trusted metadata and the version floor are kept between runs. One folder an agent.
    base_url : str
        Address of the repository, with ``metadata/`` and ``targets/`` below it.
    trusted_root : bytes
        The root metadata that this machine was given when it was enrolled.
    fetcher : FetcherInterface, optional
        How bytes travel; by default from local files.
    max_bytes : int, optional
        Most bytes of all files together. A release that says it has more is refused before they are fetched.
    """

    def __init__(
        self,
        state_dir: Path,
        base_url: str,
        trusted_root: bytes,
        fetcher: FetcherInterface | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self.state_dir = state_dir
        self._base_url = base_url.rstrip("/")
        self._trusted_root = trusted_root
        self._fetcher = fetcher or LocalFetcher()
        self._max_bytes = max_bytes

    def fetch(self) -> VerifiedBundle:
        """Return the current stable release, verified.

        Raises
        ------
        BundleSignatureError, BundleExpiredError, BundleRollbackError, BundleDigestError
            As in the module's list.
        BundleError
            The repository cannot be reached or read.
        """
        return self.fetch_offer().stable

    def fetch_offer(self, is_wanted: Callable[[CandidateListing], bool] = lambda _: False) -> Offer:
        """Return the stable release and, where `is_wanted` says so of its listing, the candidate; both verified.

        Raises
        ------
        BundleError
            As `fetch`, of the stable release and of the metadata.
        """
        metadata_dir = self.state_dir / "metadata"
        download_dir = self.state_dir / "targets"
        metadata_dir.mkdir(parents=True, exist_ok=True)
        download_dir.mkdir(parents=True, exist_ok=True)
        with as_bundle_errors():
            updater = Updater(
                metadata_dir=str(metadata_dir),
                metadata_base_url=f"{self._base_url}/metadata/",
                target_dir=str(download_dir),
                target_base_url=f"{self._base_url}/targets/",
                fetcher=self._fetcher,
                bootstrap=self._trusted_root,
            )
            updater.refresh()
            manifest, files = self._release(updater, lambda name: name)
        check_files(manifest, files)
        versions = self._raise_floor(metadata_dir)
        keys = _provenance_keys(metadata_dir)
        stable = VerifiedBundle(manifest, files, versions, keys)
        try:
            listing = self._listing(updater)
            if listing is None or not is_wanted(listing):
                return Offer(stable, listing)
            candidate = VerifiedBundle(*self._candidate(updater, listing), versions, keys)
        except BundleError as error:
            return Offer(stable, trouble=error)
        return Offer(stable, listing, candidate)

    def _release(self, updater: Updater, target_of: Callable[[str], str]) -> tuple[Manifest, dict[str, bytes]]:
        """Return a release's manifest and files by name, from the targets that `target_of` names for them."""
        self._refuse_huge(updater, [target_of(MANIFEST_NAME)])
        manifest = Manifest.from_bytes(self._download(updater, target_of(MANIFEST_NAME)))
        names = [*sorted(manifest.files), PROVENANCE_NAME]
        self._refuse_huge(updater, map(target_of, names))
        return manifest, {name: self._download(updater, target_of(name)) for name in names}

    def _listing(self, updater: Updater) -> CandidateListing | None:
        with as_bundle_errors():
            if updater.get_targetinfo(LISTING_NAME) is None:
                return None
            self._refuse_huge(updater, [LISTING_NAME])
            return CandidateListing.from_bytes(self._download(updater, LISTING_NAME))

    def _candidate(self, updater: Updater, listing: CandidateListing) -> tuple[Manifest, dict[str, bytes]]:
        with as_bundle_errors():
            manifest, files = self._release(updater, staged_name)
        found = manifest.digest
        if found != listing.manifest_sha256:
            raise BundleDigestError(
                f"the candidate's manifest is {found[:16]}…, its listing names {listing.manifest_sha256[:16]}…",
                expected=listing.manifest_sha256,
                found=found,
            )
        check_files(manifest, files)
        return manifest, files

    def _refuse_huge(self, updater: Updater, names: Iterable[str]) -> None:
        lengths = [info.length for name in names if (info := updater.get_targetinfo(name)) is not None]
        if sum(lengths) > self._max_bytes:
            raise BundleError(
                f"the release has {sum(lengths)} bytes; this machine takes at most {self._max_bytes}",
                remedy="Publish a smaller bundle.",
                offered=sum(lengths),
                limit=self._max_bytes,
            )

    def _download(self, updater: Updater, name: str) -> bytes:
        info = updater.get_targetinfo(name)
        if info is None:
            raise BundleDigestError(f"the repository's release does not list {name}", file=name)
        # TUF trusts a cached file of the right digest, and verifies what it downloads.
        try:
            path = updater.find_cached_target(info) or updater.download_target(info)
        except LengthOrHashMismatchError as error:
            raise BundleDigestError(f"{name} differs from what was signed: {error}", file=name) from error
        return Path(path).read_bytes()

    def _raise_floor(self, metadata_dir: Path) -> dict[str, int]:
        """Compare with the highest versions ever accepted, then remember these."""
        path = self.state_dir / FLOOR_NAME
        floor = _read_floor(path)
        versions = {
            role: int(json.loads((metadata_dir / f"{role}.json").read_bytes())["signed"]["version"])
            for role in ("timestamp", "snapshot", "targets", "nightly")
        }
        for role, version in versions.items():
            if version < floor.get(role, 0):
                raise BundleRollbackError(
                    f"the repository offers {role} version {version}; this machine has seen {floor[role]}",
                    remedy="Publish a new version that lists the old files; versions never go back.",
                    role=role,
                    offered=version,
                    floor=floor[role],
                )
        if versions != floor:
            write_durably(path, json.dumps(versions, sort_keys=True).encode())
        return versions


def _read_floor(path: Path) -> dict[str, int]:
    try:
        return {role: int(version) for role, version in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(
            f"the version floor {path} is damaged: {error}",
            remedy="Compare the repository with its publisher, then remove the file: it starts from what is offered.",
            path=str(path),
        ) from error


def _provenance_keys(metadata_dir: Path) -> tuple[Key, ...]:
    """Return the release and nightly keys from metadata that TUF has verified."""
    root = Metadata[Root].from_file(str(metadata_dir / "root.json")).signed
    targets = Metadata[Targets].from_file(str(metadata_dir / "targets.json")).signed
    delegations = targets.delegations
    if delegations is None or delegations.roles is None:
        raise BundleSignatureError("the repository delegates no role for models")
    release = [root.keys[keyid] for keyid in root.roles["targets"].keyids]
    nightly = [delegations.keys[keyid] for keyid in delegations.roles["nightly"].keyids]
    return (*release, *nightly)

"""Keeps an agent's detection content current: fetch, verify, try out elsewhere, load, keep, and never end with nothing.

`BundleKeeper.check` is made for a thread beside detection and touches no engine. Whatever goes wrong there, the bundle
in use stays in use. What passes is loaded in a process of its own first (`eguard.agent.load_trial`); a bundle that
kills that process twice is not tried again on this machine, even after a restart.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import structlog
from tuf.ngclient import FetcherInterface

from eguard import __version__
from eguard.agent.denylist import STRIKES_TO_DENY, Denylist
from eguard.agent.freshness import is_expired
from eguard.agent.kept_bundles import KeptBundles, KeptEntry, manifest_digest
from eguard.agent.load_trial import load_verified
from eguard.agent.private_files import make_private_folder
from eguard.agent.trial_runner import TrialLimits, try_out
from eguard.agent.trusted_root import RootOfTrust
from eguard.bundle.addresses import path_of_address
from eguard.bundle.client import DEFAULT_MAX_BYTES, BundleClient, VerifiedBundle
from eguard.bundle.manifest import Manifest
from eguard.clock import Clock, SystemClock
from eguard.detection.content import LoadedContent
from eguard.errors import BundleError, BundleExpiredError, BundleLoadError, ConfigError, EguardError

BundleState = Literal["current", "stale", "refused", "none"]
DEFAULT_LOAD_MEMORY_BYTES: Final = 1 << 30
DEFAULT_LOAD_SECONDS: Final = 60.0
#: A copy that another version of eGuard or Python tried out is tried out again before it is loaded.
_TRIED_WITH: Final = f"eguard {__version__}, python {platform.python_version()}"

_log = structlog.get_logger("eguard.agent")


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
    that ended in a refusal, `denylisted` the bundles that are not tried again.
    """

    digest: str = ""
    model_version: str = ""
    promoted: bool = False
    state: BundleState = "none"
    last_error: str = ""
    refusals_total: int = 0
    denylisted: int = 0
    last_checked_unix: float | None = None


class BundleKeeper:
    """Looks after the bundles of one agent.

    Parameters
    ----------
    state_dir : Path
        Folder of its own; made (mode 0700) where it is missing.
    repository : str
        Folder of a TUF repository, or its ``file://`` address; with a `fetcher` any address that it reads.
    trusted_root : bytes, optional
        Root metadata from enrolment. Without it the repository's first root is trusted on first use, see
        `eguard.agent.trusted_root`.
    max_load_memory_bytes, max_load_seconds : int, float
        Limits of the trial: memory beyond an interpreter with its libraries, and CPU time.
    max_bundle_bytes : int
        Most bytes of a bundle's files together.
    clock : Clock, optional
        Says when a check was.
    fetcher : FetcherInterface, optional
        How bytes travel from a repository that is not on this machine; that needs a `trusted_root`.

    Raises
    ------
    ConfigError
        `repository` is no local address and there is no `fetcher`, or no `trusted_root` beside one.
    """

    def __init__(
        self,
        state_dir: Path,
        repository: str,
        trusted_root: bytes | None = None,
        *,
        max_load_memory_bytes: int = DEFAULT_LOAD_MEMORY_BYTES,
        max_load_seconds: float = DEFAULT_LOAD_SECONDS,
        max_bundle_bytes: int = DEFAULT_MAX_BYTES,
        clock: Clock | None = None,
        fetcher: FetcherInterface | None = None,
    ) -> None:
        self._folder = state_dir
        self._fetcher = fetcher
        local = _local_folder(repository) if fetcher is None else None
        if local is None and trusted_root is None:
            raise ConfigError(
                f"there is no trusted root for the bundle repository {repository}",
                remedy="Name the root file that the release engineer published: EGUARD_BUNDLE_ROOT.",
            )
        self._repository = repository if local is None else str(local)
        self._address = repository if local is None else local.as_uri()
        self._root = RootOfTrust(state_dir, local or state_dir, trusted_root)
        self._limits = TrialLimits(max_load_memory_bytes, max_load_seconds)
        self._max_bundle_bytes = max_bundle_bytes
        self._clock = clock or SystemClock()
        self._kept = KeptBundles(state_dir / "kept")
        self._denylist: Denylist | None = None
        self._status = BundleStatus()
        self._refused: tuple[str, EguardError] | None = None
        self._logged = ""

    def status(self) -> BundleStatus:
        """Return how things stand; any thread may ask."""
        return self._status

    def last_good(self) -> NewBundle | None:
        """Return the bundle that was in use last, from this agent's own copy; None if there is no intact one.

        The repository is not asked. Every byte is checked against the manifest. A copy that cannot be used is logged,
        and the one before it is tried.
        """
        trouble = ""
        found = None
        for entry in self._kept.entries():
            try:
                found = self._load_kept(entry)
                break
            except (EguardError, OSError, RecursionError, MemoryError) as error:
                trouble = f"the kept bundle {entry.digest[:16]} cannot be used: {error}"
                _log.error("cannot use kept bundle", digest=entry.digest, reason=str(error))
        if found is not None:
            self._use(found)
        self._status = replace(self._status, last_error=trouble)
        return found

    def check(self) -> NewBundle | None:
        """Look for a new bundle; return it once it is verified, tried out, loaded and kept, or None.

        None means that the repository offers what is in use, or a bundle on the denylist. The same trouble is logged
        once, however often it is met.

        Raises
        ------
        BundleExpiredError
            The repository's metadata have expired.
        BundleError, ModelError, RuleError
            What is offered is refused, or nothing can be fetched or kept. The bundle in use stays in use. Except for
            `BundleLoadError`, a refused bundle is not loaded again until the repository offers another.
        """
        self._status = replace(self._status, last_checked_unix=self._clock.now())
        try:
            bundle = self._look()
        except EguardError as error:
            self._note_refusal(error)
            raise
        except (OSError, ValueError, LookupError, RecursionError, MemoryError) as error:
            failure = BundleError(
                f"the check for a new bundle failed: {error!r}",
                remedy=f"Look at the disk of {self._folder} and at the repository {self._repository}.",
            )
            self._note_refusal(failure)
            raise failure from error
        if bundle is not None:
            self._use(bundle)
        return bundle

    def _look(self) -> NewBundle | None:
        make_private_folder(self._folder)
        denylist = self._open_denylist()
        root = self._root.read()
        offered = self._client(root).fetch()
        self._root.pin(root)
        digest = manifest_digest(offered.manifest)
        if digest == self._status.digest:
            self._note_calm("current", "")
            return None
        if reason := denylist.reason(digest):
            message = f"bundle {digest[:16]} is on the denylist: {reason}"
            self._note_calm("refused", message)
            self._log_once("skipped denylisted bundle", message, digest=digest, reason=reason)
            return None
        if self._refused is not None and self._refused[0] == digest:
            raise self._refused[1].with_traceback(None)
        return self._take(digest, offered, denylist)

    def _take(self, digest: str, offered: VerifiedBundle, denylist: Denylist) -> NewBundle:
        manifest = offered.manifest
        files = {name: offered.files[name] for name in manifest.files}
        try:
            trial = try_out(manifest, files, self._limits, self._folder)
            content = load_verified(manifest, files)
        except BundleLoadError as error:
            strikes = denylist.strike(digest, error.context["reason"], manifest.model_version, self._clock.now())
            self._status = replace(self._status, denylisted=len(denylist))
            _log.error("bundle killed its trial", digest=digest, strikes=strikes, of=STRIKES_TO_DENY)
            raise
        except EguardError as error:
            self._refused = (digest, error)
            raise
        self._kept.keep(KeptEntry(digest, offered.versions, _TRIED_WITH), manifest, files)
        _log.info(
            "verified new bundle",
            digest=digest,
            model_version=manifest.model_version,
            versions=offered.versions,
            trial_seconds=round(trial.seconds, 3),
            trial_peak_bytes=trial.peak_bytes,
        )
        return NewBundle(digest, manifest, content, offered.versions)

    def _load_kept(self, entry: KeptEntry) -> NewBundle:
        kept = self._kept.read(entry.digest)
        if entry.tried_with != _TRIED_WITH:
            try_out(kept.manifest, kept.files, self._limits, self._folder)
        return NewBundle(entry.digest, kept.manifest, load_verified(kept.manifest, kept.files), entry.versions)

    def _client(self, root: bytes) -> BundleClient:
        return BundleClient(
            self._folder / "repository", self._address, root, self._fetcher, max_bytes=self._max_bundle_bytes
        )

    def _open_denylist(self) -> Denylist:
        if self._denylist is None:
            self._denylist = Denylist(self._folder / "denylist.json")
            self._status = replace(self._status, denylisted=len(self._denylist))
        return self._denylist

    def _use(self, bundle: NewBundle) -> None:
        self._status = replace(
            self._status,
            digest=bundle.digest,
            model_version=bundle.manifest.model_version,
            promoted=bundle.manifest.promoted,
        )
        self._note_calm(self._freshness(), "")

    def _freshness(self) -> BundleState:
        return "stale" if is_expired(self._folder / "repository", self._clock.now()) else "current"

    def _note_calm(self, state: BundleState, message: str) -> None:
        self._status = replace(self._status, state=state, last_error=message)
        if not message:
            self._logged = ""

    def _note_refusal(self, error: EguardError) -> None:
        """Record a failed check: what it says about the state, and whether it counts as a refusal."""
        is_refusal = type(error) is not BundleError
        state: BundleState = self._status.state
        if isinstance(error, BundleExpiredError):
            state = "stale"
        elif is_refusal:
            state = "refused"
        elif self._status.digest:
            state = self._freshness()  # out of reach: how long has that been?
        self._status = replace(
            self._status,
            state=state,
            last_error=error.message,
            refusals_total=self._status.refusals_total + is_refusal,
        )
        event = "refused bundle" if is_refusal else "cannot check for bundles"
        self._log_once(event, error.message, kind=error.code, reason=error.message, remedy=error.remedy)

    def _log_once(self, event: str, key: str, **facts: str) -> None:
        if key != self._logged:
            self._logged = key
            _log.warning(event, repository=self._repository, in_use=self._status.digest, **facts)


def _local_folder(repository: str) -> Path:
    if urlsplit(repository).scheme == "file":
        return path_of_address(repository)
    if "://" in repository or not repository:
        raise ConfigError(
            f"the bundle repository {repository!r} is no folder of this machine",
            remedy="Name a folder or a file:// address: EGUARD_BUNDLE_REPOSITORY.",
        )
    return Path(repository).absolute()

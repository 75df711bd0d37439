"""Keeps an agent's detection content current: fetch, verify, try out elsewhere, load, keep, and never end with nothing.

`BundleKeeper.check` is made for a thread beside detection and touches no engine. Whatever goes wrong there, the bundle
in use stays in use. What passes is loaded in a process of its own first (`eguard.agent.load_trial`); a bundle that
kills that process twice is not tried again on this machine, even after a restart.

A repository may list a candidate beside the stable release. Whether this agent runs it, scores with it beside the model
in use (`eguard.agent.shadow`) or leaves it alone is asked at every check, so that an agent goes back to the stable
release when the candidate is withdrawn or its share shrinks. A candidate that is refused leaves the stable one.
"""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
from tuf.ngclient import FetcherInterface

from eguard import __version__
from eguard.agent.bundle_status import BundleState, BundleStatus, NewBundle
from eguard.agent.candidate_part import Choice, Part, take_no_part
from eguard.agent.denylist import STRIKES_TO_DENY, Denylist
from eguard.agent.freshness import is_expired
from eguard.agent.kept_bundles import KeptBundles, KeptEntry
from eguard.agent.load_trial import load_verified
from eguard.agent.private_files import make_private_folder
from eguard.agent.trial_runner import TrialLimits, try_out
from eguard.agent.trusted_root import RootOfTrust
from eguard.bundle.addresses import path_of_address
from eguard.bundle.candidate import CandidateListing
from eguard.bundle.client import DEFAULT_MAX_BYTES, BundleClient, VerifiedBundle
from eguard.clock import Clock, SystemClock
from eguard.errors import BundleError, BundleExpiredError, BundleLoadError, ConfigError, EguardError

DEFAULT_LOAD_MEMORY_BYTES: Final = 1 << 30
DEFAULT_LOAD_SECONDS: Final = 60.0
#: A copy that another version of eGuard or Python tried out is tried out again before it is loaded.
_TRIED_WITH: Final = f"eguard {__version__}, python {platform.python_version()}"

_log = structlog.get_logger("eguard.agent")


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
    choose : callable
        Says what to do with a candidate, by its listing.

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
        choose: Choice = take_no_part,
    ) -> None:
        self._choose = choose
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
        self._refused: dict[str, EguardError] = {}
        self._logged = ""
        self._logged_candidate = ""
        self._shadow: NewBundle | None = None

    def status(self) -> BundleStatus:
        """Return how things stand; any thread may ask."""
        return self._status

    @property
    def shadow(self) -> NewBundle | None:
        """The candidate to score with beside the model in use; any thread may ask."""
        return self._shadow

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
        self._open_denylist()
        root = self._root.read()
        parts: list[Part] = []

        def is_wanted(listing: CandidateListing) -> bool:
            parts.append(self._choose(listing))
            return parts[0] is not Part.NONE

        offered = self._client(root).fetch_offer(is_wanted)
        self._root.pin(root)
        part = parts[0] if parts else Part.NONE
        refusal: EguardError | None = offered.trouble
        if refusal is None and offered.candidate is not None and part is Part.RUN:
            self._drop_shadow()
            try:
                found = self._offer(offered.candidate, is_candidate=True)
            except EguardError as error:
                refusal = error
            else:
                self._status = replace(self._status, candidate_error="")
                return found
        found = self._offer(offered.stable)
        if offered.candidate is not None and part is Part.SHADOW:
            try:
                self._take_shadow(offered.candidate, self._status.digest if found is None else found.digest)
            except EguardError as error:
                refusal = error
        else:
            self._drop_shadow()
        self._status = replace(self._status, candidate_error="" if refusal is None else refusal.message)
        if refusal is not None:
            self._note_candidate_trouble(refusal)
        return found

    def _offer(self, offered: VerifiedBundle, *, is_candidate: bool = False) -> NewBundle | None:
        """Return an offered bundle ready for use, or None if it is in use or denied.

        Raises
        ------
        EguardError
            It is refused. A candidate that is denied is, too: the stable release is due then.
        """
        digest = offered.manifest.digest
        if digest == self._status.digest:
            self._status = replace(self._status, is_candidate=is_candidate)
            self._note_calm("current", "")
            return None
        assert self._denylist is not None
        if reason := self._denylist.reason(digest):
            message = f"bundle {digest[:16]} is on the denylist: {reason}"
            self._status = replace(self._status, refused_digest=digest, refused_code=BundleLoadError.code)
            if is_candidate:
                raise BundleError(message, digest=digest)
            self._note_calm("refused", message)
            self._log_once("skipped denylisted bundle", message, digest=digest, reason=reason)
            return None
        bundle = self._take(digest, offered)
        self._kept.keep(KeptEntry(digest, offered.versions, _TRIED_WITH), bundle.manifest, _listed_files(offered))
        _log.info(
            "verified new bundle",
            digest=digest,
            model_version=bundle.manifest.model_version,
            versions=offered.versions,
            is_candidate=is_candidate,
        )
        self._status = replace(self._status, is_candidate=is_candidate)
        return bundle

    def _take(self, digest: str, offered: VerifiedBundle) -> NewBundle:
        """Try a bundle out elsewhere, then load it here; one that was refused is refused again without a trial."""
        if digest in self._refused:
            raise self._refused[digest].with_traceback(None)
        manifest, files = offered.manifest, _listed_files(offered)
        assert self._denylist is not None
        try:
            trial = try_out(manifest, files, self._limits, self._folder)
            content = load_verified(manifest, files)
        except BundleLoadError as error:
            strikes = self._denylist.strike(digest, error.context["reason"], manifest.model_version, self._clock.now())
            self._status = replace(
                self._status, denylisted=len(self._denylist), refused_digest=digest, refused_code=error.code
            )
            _log.error("bundle killed its trial", digest=digest, strikes=strikes, of=STRIKES_TO_DENY)
            raise
        except EguardError as error:
            self._status = replace(self._status, refused_digest=digest, refused_code=error.code)
            self._refused = {**dict(list(self._refused.items())[-1:]), digest: error}
            raise
        _log.debug("tried bundle out", digest=digest, seconds=round(trial.seconds, 3), peak_bytes=trial.peak_bytes)
        if self._status.refused_digest == digest:
            self._status = replace(self._status, refused_digest="", refused_code="")
        return NewBundle(digest, manifest, content, offered.versions)

    def _take_shadow(self, offered: VerifiedBundle, in_use: str) -> None:
        digest = offered.manifest.digest
        if digest == in_use:
            self._drop_shadow()
        elif self._shadow is None or self._shadow.digest != digest:
            self._drop_shadow()
            assert self._denylist is not None
            if reason := self._denylist.reason(digest):
                self._status = replace(self._status, refused_digest=digest, refused_code=BundleLoadError.code)
                raise BundleError(f"bundle {digest[:16]} is on the denylist: {reason}", digest=digest)
            self._shadow = self._take(digest, offered)
            self._status = replace(self._status, shadow_digest=digest)
            _log.info("verified candidate", digest=digest, model_version=offered.manifest.model_version)

    def _drop_shadow(self) -> None:
        self._shadow = None
        self._status = replace(self._status, shadow_digest="")

    def _note_candidate_trouble(self, error: EguardError) -> None:
        """Record that the candidate is not taken; how the stable bundle stands is another matter."""
        self._status = replace(self._status, refusals_total=self._status.refusals_total + 1)
        if error.message != self._logged_candidate:
            self._logged_candidate = error.message
            _log.warning("refused candidate", kind=error.code, reason=error.message, in_use=self._status.digest)

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


def _listed_files(offered: VerifiedBundle) -> dict[str, bytes]:
    return {name: offered.files[name] for name in offered.manifest.files}


def _local_folder(repository: str) -> Path:
    if urlsplit(repository).scheme == "file":
        return path_of_address(repository)
    if "://" in repository or not repository:
        raise ConfigError(
            f"the bundle repository {repository!r} is no folder of this machine",
            remedy="Name a folder or a file:// address: EGUARD_BUNDLE_REPOSITORY.",
        )
    return Path(repository).absolute()

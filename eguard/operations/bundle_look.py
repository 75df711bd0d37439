"""One look at a bundle repository, as this agent would take it, in a state folder that is thrown away."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from eguard.agent.control.bundle_fetcher import ControlFetcher
from eguard.agent.control.client import ControlClient
from eguard.agent.control.credentials import TlsFiles
from eguard.agent.control.enrolment_files import BUNDLE_ROOT_NAME
from eguard.agent.service import BUNDLE_STATE_NAME, DEFAULT_REPOSITORIES
from eguard.agent.trusted_root import PIN_NAME, RootOfTrust
from eguard.bundle.client import FLOOR_NAME, BundleClient, VerifiedBundle
from eguard.errors import BundleError
from eguard.operations.examination import Examination
from eguard.settings import AgentSettings

ROLES: Final = ("root", "timestamp", "snapshot", "targets", "nightly")
#: Where the agent keeps what its own client has seen, below its bundle folder.
_CLIENT_NAME: Final = "repository"


@dataclass(frozen=True, slots=True)
class BundleLook:
    """What was found.

    Parameters
    ----------
    repository : str
        Folder or address; empty if there is none.
    bundle : VerifiedBundle, optional
        The bundle, if everything about it verifies.
    error : BundleError, optional
        Why there is none.
    trust : str
        Where the trusted root comes from.
    is_first_use : bool
        The root was found beside what it signs, and this machine has never used it.
    days_left : dict of str to float
        Days until the newest metadata of each role expires, as the repository offers it, verified or not.
    unasked : str
        Why a repository that there is was not looked at.
    """

    repository: str
    bundle: VerifiedBundle | None = None
    error: BundleError | None = None
    trust: str = ""
    is_first_use: bool = False
    days_left: Mapping[str, float] = field(default_factory=dict)
    unasked: str = ""


def folder_of(repository: str) -> Path | None:
    """Return the folder of a repository's setting, None if it is the address of something else.

    Examples
    --------
    >>> folder_of("file:///srv/bundles%20new"), folder_of("/srv/b"), folder_of("https://b.example/")
    (PosixPath('/srv/bundles new'), PosixPath('/srv/b'), None)
    """
    if "://" not in repository:
        return Path(repository).absolute()
    parts = urlsplit(repository)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def look_at_bundle(examination: Examination) -> BundleLook:
    """Fetch and verify what the agent's repository offers, with the root and the versions that the agent knows."""
    settings = examination.settings
    root = settings.bundle_root or settings.tls_folder / BUNDLE_ROOT_NAME
    if settings.server and not settings.bundle_repository and root.exists():
        return _look_at_servers(examination, root)
    repository = settings.bundle_repository or next(
        (str(path) for path in DEFAULT_REPOSITORIES if (path / "metadata").is_dir()), ""
    )
    if not repository:
        return BundleLook("")
    folder = folder_of(repository)
    if folder is None:
        problem = BundleError(
            f"the bundle repository {repository!r} is no folder of this machine",
            remedy="Name a folder or a file:// address: EGUARD_BUNDLE_REPOSITORY.",
        )
        return BundleLook(repository, error=problem)
    return _look_at_folder(settings, repository, folder, examination.clock.now())


def _look_at_folder(settings: AgentSettings, repository: str, folder: Path, now_unix: float) -> BundleLook:
    state = settings.state_path / BUNDLE_STATE_NAME
    is_pinned = (state / PIN_NAME).exists()
    trust = str(settings.bundle_root or (state / PIN_NAME if is_pinned else "the repository's own first root"))
    days = _days_left(folder / "metadata", now_unix)
    bundle, error = None, None
    try:
        given = None if settings.bundle_root is None else settings.bundle_root.read_bytes()
        trusted = RootOfTrust(state, folder, given).read()
        with _client_folder(settings) as place:
            bundle = BundleClient(place, folder.as_uri(), trusted).fetch()
    except BundleError as refusal:
        error = refusal
    except PermissionError:
        raise  # what is closed to this user says nothing about the agent
    except OSError as refusal:
        error = BundleError(
            f"{refusal.filename} cannot be read: {refusal.strerror}",
            remedy="Correct EGUARD_BUNDLE_REPOSITORY or EGUARD_BUNDLE_ROOT, or run it as the agent's user.",
        )
    return BundleLook(repository, bundle, error, trust, settings.bundle_root is None and not is_pinned, days)


def _look_at_servers(examination: Examination, root: Path) -> BundleLook:
    """Fetch over the channel to the server, as an enrolled agent does that is told of no other repository."""
    settings = examination.settings
    if not examination.may_ask:
        return BundleLook("", unasked="the server cannot be asked for its bundles; see the checks server_*")
    # With a context of its own the client does not log what it does: this is no agent at work.
    client = ControlClient(settings.server, TlsFiles.of(settings).context())
    fetcher = ControlFetcher(client)
    bundle, error = None, None
    try:
        with _client_folder(settings) as place:
            try:
                bundle = BundleClient(place, fetcher.address, root.read_bytes(), fetcher).fetch()
            except BundleError as refusal:
                error = refusal
            days = _days_left(place / "metadata", examination.clock.now())
    finally:
        client.close()
    return BundleLook(fetcher.address, bundle, error, str(root), days_left=days)


@contextmanager
def _client_folder(settings: AgentSettings) -> Iterator[Path]:
    """Lend a folder in which the highest versions that the agent has seen count, too; at its first start none are."""
    floor = settings.state_path / BUNDLE_STATE_NAME / _CLIENT_NAME / FLOOR_NAME
    with tempfile.TemporaryDirectory(prefix="eguard-doctor-") as name:
        with suppress(FileNotFoundError):
            shutil.copyfile(floor, Path(name) / FLOOR_NAME)
        yield Path(name)


def _days_left(folder: Path, now_unix: float) -> dict[str, float]:
    found = {}
    for role in ROLES:
        path = folder / "timestamp.json" if role == "timestamp" else _newest(folder, role)
        try:
            expires = json.loads(path.read_bytes())["signed"]["expires"] if path else None
            if expires is not None:
                found[role] = (datetime.fromisoformat(expires).timestamp() - now_unix) / 86_400.0
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # damaged metadata are the verification's to judge
    return found


def _newest(folder: Path, role: str) -> Path | None:
    numbered = {
        int(number): path
        for path in folder.glob(f"*.{role}.json")
        if (number := path.name.removesuffix(f".{role}.json")).isdecimal()
    }
    plain = folder / f"{role}.json"  # as a client keeps it
    return numbered[max(numbered)] if numbered else plain if plain.exists() else None

"""A plain TUF client over files or HTTP, for the public conformance suite and for looking at a repository by hand.

It has the verification that `BundleClient` has, and nothing on top: no manifest, no version floor. The floor is left
out because the specification lets snapshot and timestamp versions fall when their keys are replaced, and a conforming
client has to follow.

The root given to `initialise` is kept beside the metadata and handed to TUF at every run as its trust anchor, so what
lies in the metadata folder is never trusted for being there.

References
----------
The Update Framework specification 1.0, section 5; the conformance suite's protocol for clients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tuf.ngclient import Updater, UpdaterConfig

from eguard.bundle.client import LocalFetcher
from eguard.bundle.refusals import as_bundle_errors
from eguard.bundle.repository import write_durably
from eguard.errors import BundleError

#: The trust anchor. It does not end in .json, for everything that does is trusted metadata of one role.
ANCHOR_NAME: Final = "trusted-root"


def initialise(metadata_dir: Path, trusted_root: Path) -> None:
    """Trust a root; no repository is asked.

    Raises
    ------
    BundleError
        The root cannot be read or kept.
    """
    with _disk_errors():
        root = trusted_root.read_bytes()
        write_durably(metadata_dir / ANCHOR_NAME, root)
        write_durably(metadata_dir / "root.json", root)


def refresh(metadata_dir: Path, metadata_url: str) -> None:
    """Bring the metadata of the top-level roles up to date.

    Raises
    ------
    BundleError
        As `BundleClient.fetch`, by kind.
    """
    with _disk_errors(), as_bundle_errors():
        _updater(metadata_dir, metadata_url, None, None).refresh()


def download(metadata_dir: Path, metadata_url: str, name: str, target_dir: Path, target_base_url: str) -> Path:
    """Fetch one target, verified, and return its file. One that is there already, unchanged, is not fetched again.

    Raises
    ------
    BundleError
        As `BundleClient.fetch`, by kind; or the repository lists no such target.
    """
    with _disk_errors(), as_bundle_errors():
        updater = _updater(metadata_dir, metadata_url, target_dir, target_base_url)
        target_dir.mkdir(parents=True, exist_ok=True)
        info = updater.get_targetinfo(name)
        if info is None:
            raise BundleError(f"the repository lists no target {name!r}", target=name)
        return Path(updater.find_cached_target(info) or updater.download_target(info))


def _updater(metadata_dir: Path, metadata_url: str, target_dir: Path | None, target_base_url: str | None) -> Updater:
    try:
        anchor = (metadata_dir / ANCHOR_NAME).read_bytes()
    except FileNotFoundError as error:
        raise BundleError(
            f"{metadata_dir} was not initialised",
            remedy=f"Trust a root first: eguard bundle client --metadata-dir {metadata_dir} init ROOT",
            path=str(metadata_dir),
        ) from error
    return Updater(
        metadata_dir=str(metadata_dir),
        metadata_base_url=metadata_url,
        target_dir=str(target_dir) if target_dir is not None else None,
        target_base_url=target_base_url,
        fetcher=LocalFetcher() if urlsplit(metadata_url).scheme == "file" else None,
        config=UpdaterConfig(app_user_agent="eguard"),
        bootstrap=anchor,
    )


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BundleError(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")) from error

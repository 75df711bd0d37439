"""The bundle repository's online side: the server keeps it fresh, with the two keys that may lie there.

Agents call a repository stale whose timestamp expired, two days after it was signed. The keys of the root, of the
release and of retraining stay where they are: nothing here can change what a release holds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from eguard.bundle.keys import Signers, load_role_keys
from eguard.bundle.repository import Repository
from eguard.errors import BundleError

if sys.platform != "win32":
    import fcntl  # the server runs on Linux; elsewhere two refreshes at once are not kept apart

ONLINE_ROLES: Final = ("snapshot", "timestamp")
LOCK_NAME: Final = ".refresh.lock"


def refresh_repository(directory: Path, keys: Path, *, now: datetime | None = None) -> dict[str, Any]:
    """Sign a new snapshot and timestamp.

    Parameters
    ----------
    directory : Path
        The repository's folder, with ``metadata/``.
    keys : Path
        Folder with ``snapshot-1.pem`` and ``timestamp-1.pem``.
    now : datetime, optional
        The time that expiry dates count from; the present by default.

    Returns
    -------
    dict
        `versions` of snapshot and timestamp, and when the timestamp expires.

    Raises
    ------
    BundleError
        A key is missing or is not the repository's, its metadata is damaged, or it is being refreshed already. What
        is there stays as it is.
    """
    signers = {role: load_role_keys(keys, role) for role in ONLINE_ROLES}
    with locked_repository(directory):
        check_online_keys(directory, signers)
        repository = Repository(directory, signers, now=now)
        repository.refresh()
        timestamp = Metadata.from_file(str(repository.metadata_dir / "timestamp.json")).signed
        versions = {role: repository.version_of(role) for role in ONLINE_ROLES}
    return {"versions": versions, "expires": timestamp.expires.isoformat()}


def check_online_keys(directory: Path, signers: Signers) -> None:
    """Refuse keys that agents would not accept: those that the latest root does not name for their role.

    Raises
    ------
    BundleError
        A key is another one, or the root cannot be read.
    """
    folder = directory / "metadata"
    versions = [int(path.name.split(".", 1)[0]) for path in folder.glob("*.root.json")]
    path = folder / f"{max(versions, default=1)}.root.json"
    try:
        root = Metadata[Root].from_file(str(path)).signed
    except (DeserializationError, RepositoryError, OSError, ValueError) as error:
        raise BundleError(
            f"the repository's root {path} cannot be read: {error}",
            remedy="Restore the repository from a backup.",
            path=str(path),
        ) from error
    for role, held in signers.items():
        if not set(root.roles[role].keyids).issuperset(signer.public_key.keyid for signer in held):
            raise BundleError(
                f"the {role} key is none that {path.name} names",
                remedy="Put the online keys of this repository into the server's key folder.",
                role=role,
            )


@contextmanager
def locked_repository(directory: Path) -> Iterator[None]:
    """Hold a repository for one change.

    Raises
    ------
    BundleError
        Another process changes it now, or the folder cannot be written.
    """
    try:
        descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BundleError(
            f"{directory} cannot be changed: {error.strerror}",
            remedy="Publish a first release there, and let the server's user write to it.",
            path=str(directory),
        ) from error
    try:
        if sys.platform != "win32":
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BundleError(
                    f"{directory} is being changed by another process", remedy="Try again when it has finished."
                ) from error
        yield
    finally:
        os.close(descriptor)

"""Where an agent's trust in a repository begins: the root it was given, or the first one it sees on its own disk.

An agent that was enrolled has the root metadata from its enrolment. One that reads a repository on its own machine may
trust that repository's first root, once (trust on first use), if nobody but root or the agent's user could have put it
there. What was trusted is pinned in the agent's state: from then on another first root is refused.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Final

import structlog

from eguard.agent.private_files import write_private
from eguard.errors import BundleSignatureError

PIN_NAME: Final = "root.json"
FIRST_ROOT: Final = "1.root.json"
_MAX_ROOT_BYTES: Final = 512_000
_WRITABLE_BY_OTHERS: Final = 0o022

_log = structlog.get_logger("eguard.agent")


class RootOfTrust:
    """The root metadata that a machine trusts.

    Parameters
    ----------
    state_dir : Path
        Where the pin is kept.
    repository : Path
        Folder of the repository, on this machine.
    given : bytes, optional
        Root metadata from enrolment; it is always used. Without it the first root of `repository` is trusted on first
        use.
    """

    def __init__(self, state_dir: Path, repository: Path, given: bytes | None) -> None:
        self._pin_path = state_dir / PIN_NAME
        self._repository = repository
        self._given = given

    def read(self) -> bytes:
        """Return the root to verify with.

        Raises
        ------
        BundleSignatureError
            The repository's first root is not the pinned one, or others could have written it.
        OSError
            A file cannot be read.
        """
        if self._given is not None:
            return self._given
        pinned = self._pinned()
        first = self._repository / "metadata" / FIRST_ROOT
        if pinned is None:
            refuse_writable_by_others(first)
            return _read(first)
        if os.path.lexists(first) and _read(first) != pinned:
            raise BundleSignatureError(
                f"{first} is not the root that this machine trusted first",
                remedy="Restore the repository. If it was made anew on purpose, stop the agent and remove the folder "
                f"{self._pin_path.parent}; the agent then trusts the new one.",
                path=str(first),
            )
        return pinned

    def pin(self, root: bytes) -> None:
        """Remember a root with which a repository was verified.

        Raises
        ------
        OSError
            The disk refused.
        """
        pinned = self._pinned()
        if pinned == root:
            return
        write_private(self._pin_path, root)
        _log.info("pinned root of bundle repository", repository=str(self._repository), replaced=pinned is not None)

    def _pinned(self) -> bytes | None:
        try:
            return _read(self._pin_path)
        except FileNotFoundError:
            return None


def refuse_writable_by_others(path: Path) -> None:
    """Check a file and every folder above it: owned by root or this user, and writable by nobody else.

    A folder with the sticky bit, such as /tmp, may be writable: nobody can replace what others own in it.

    Raises
    ------
    BundleSignatureError
        Somebody else could have put the file there.
    OSError
        The file or a folder cannot be looked at.
    """
    if sys.platform == "win32":  # owners and modes say nothing there
        raise BundleSignatureError(
            f"this system does not say who could have written {path}, so it is not trusted on first use",
            remedy="Give the agent the root file that the release engineer published: EGUARD_BUNDLE_ROOT.",
            path=str(path),
        )
    if path.is_symlink():
        raise _untrusted(path, "is a symbolic link")
    resolved = path.resolve(strict=True)
    for part in (resolved, *resolved.parents):
        found = part.stat()
        if found.st_uid not in (0, _user()):
            raise _untrusted(part, f"belongs to user {found.st_uid}")
        is_shared_folder = stat.S_ISDIR(found.st_mode) and bool(found.st_mode & stat.S_ISVTX)
        if found.st_mode & _WRITABLE_BY_OTHERS and not is_shared_folder:
            raise _untrusted(part, f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})")


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_MAX_ROOT_BYTES)


def _untrusted(path: Path, reason: str) -> BundleSignatureError:
    return BundleSignatureError(
        f"{path} {reason}, so the repository's root is not trusted on first use",
        remedy="Give the agent the root file that the release engineer published (EGUARD_BUNDLE_ROOT), or hand the "
        "repository to root: chown -R root and chmod -R go-w.",
        path=str(path),
    )

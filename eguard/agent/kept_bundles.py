"""The bundles that an agent has used last, in copies of its own, so that it starts without its repository.

Each copy is a folder named by the SHA-256 of its manifest, which names its files by theirs; reading checks both. No
name from a bundle becomes a file name. The index is replaced last, so a kill leaves the old copies in force. The one
before the last is kept too, for the day on which a sector of the last one cannot be read.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from eguard.agent.private_files import make_private_folder, write_private
from eguard.baseline.portable_calls import sync_folder
from eguard.bundle.manifest import Manifest, check_files
from eguard.errors import BundleDigestError

KEPT_COPIES: Final = 2
_INDEX: Final = "index.json"
_MANIFEST: Final = "manifest.json"
_NEW: Final = ".new"
_DIGEST_LENGTH: Final = 64

_log = structlog.get_logger("eguard.agent")


class KeptEntry(msgspec.Struct, frozen=True):
    """A copy: digest of the manifest, TUF versions that carried it, and what it was tried out with."""

    digest: str
    versions: dict[str, int]
    tried_with: str


class _Index(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    bundles: list[KeptEntry]


@dataclass(frozen=True, slots=True)
class KeptBundle:
    """A copy that is exactly what was verified once."""

    manifest: Manifest
    files: dict[str, bytes]


class KeptBundles:
    """The copies in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entries(self) -> list[KeptEntry]:
        """Return what there is, the last one first. A damaged index is made good from the folders' names."""
        try:
            index = msgspec.json.decode((self._folder / _INDEX).read_bytes(), type=_Index)
            return [entry for entry in index.bundles if _is_digest(entry.digest)]
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.error("index of kept bundles is damaged", folder=str(self._folder), reason=str(error))
            return self._entries_of_folders()

    def _entries_of_folders(self) -> list[KeptEntry]:
        try:
            folders = [path for path in self._folder.iterdir() if _is_digest(path.name)]
            folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        except OSError:
            return []
        return [KeptEntry(path.name, {}, "") for path in folders]

    def read(self, digest: str) -> KeptBundle:
        """Return a copy once every byte of it was checked.

        Raises
        ------
        BundleDigestError
            A byte differs from what was kept, or a file is missing.
        """
        folder = self._folder / digest
        try:
            data = (folder / _MANIFEST).read_bytes()
            if hashlib.sha256(data).hexdigest() != digest:
                raise BundleDigestError(f"the manifest in {folder} is not the one that was kept")
            manifest = Manifest.from_bytes(data)
            files = {name: (folder / line.sha256).read_bytes() for name, line in manifest.files.items()}
        except OSError as error:
            raise BundleDigestError(f"a file of the kept bundle {folder} cannot be read: {error}") from error
        check_files(manifest, files)
        return KeptBundle(manifest, files)

    def keep(self, entry: KeptEntry, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        """Make a bundle the last one; when this returns it is there after a power cut.

        Raises
        ------
        OSError
            The disk refused. The copies of before are in force.
        """
        make_private_folder(self._folder)
        known = self.entries()
        new = self._folder / _NEW
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        for name, line in manifest.files.items():
            write_private(new / line.sha256, files[name])
        write_private(new / _MANIFEST, manifest.to_bytes())
        target = self._folder / entry.digest
        if target.exists():
            # Kept before, perhaps damaged. Between these two steps the copy before it is the one that is there.
            shutil.rmtree(target)
        new.replace(target)
        sync_folder(self._folder)
        kept = [entry, *(other for other in known if other.digest != entry.digest)][:KEPT_COPIES]
        write_private(self._folder / _INDEX, msgspec.json.encode(_Index(1, kept)) + b"\n")
        self._remove_others({other.digest for other in kept})

    def _remove_others(self, digests: set[str]) -> None:
        for path in self._folder.iterdir():
            if path.is_dir() and path.name not in digests:
                shutil.rmtree(path, ignore_errors=True)


def _is_digest(text: str) -> bool:
    return len(text) == _DIGEST_LENGTH and not set(text) - set("0123456789abcdef")

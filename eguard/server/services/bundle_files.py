"""Files of the served bundle repository: those that it has, and nothing beside them.

Nothing is believed of a name: each part has to look like one of a repository's, and what is opened has to be a plain
file below the repository's own folders once every link is followed. Agents verify what they get (`eguard.bundle`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import structlog
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from eguard.bundle.manifest import MANIFEST_NAME, Manifest
from eguard.errors import BundleError, ServerRefusalError

CHUNK_BYTES: Final = 65_536

_log = structlog.get_logger("eguard.server")

_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
#: Folders below each root: ``targets/models/NAME`` is the deepest.
_MAX_PARTS: Final = {"metadata": 1, "targets": 2}


@dataclass(frozen=True, slots=True)
class BundleFile:
    """An open file: its bytes, its length, and a tag that changes with them."""

    stream: BinaryIO
    length_bytes: int
    etag: str

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes as of when it was opened, and close it."""
        with self.stream:
            left = self.length_bytes
            while left and (chunk := self.stream.read(min(left, CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk


class BundleFiles:
    """The repository that agents are served.

    Parameters
    ----------
    directory : Path
        Its folder; it need not exist yet.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, kind: Literal["metadata", "targets"], name: str) -> BundleFile:
        """Return a file of the repository, open.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_bundle_file``: there is none of this name, or the name is none of a repository's.
        """
        parts = name.split("/")
        if len(parts) > _MAX_PARTS[kind] or not all(_PART.fullmatch(part) for part in parts):
            raise _unknown(kind, name)
        root = self._directory / kind
        path = root.joinpath(*parts)
        try:
            if not path.resolve(strict=True).is_relative_to(root.resolve(strict=True)):
                raise _unknown(kind, name)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK)
        except (OSError, RuntimeError) as error:
            raise _unknown(kind, name) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise _unknown(kind, name)
        etag = f'"{status.st_mtime_ns:x}-{status.st_ino:x}-{status.st_size:x}"'
        return BundleFile(os.fdopen(descriptor, "rb"), status.st_size, etag)

    def version(self) -> dict[str, Any]:
        """Return what the repository offers now: versions, expiry, the bundle's model and the records of its files.

        It says what the files say, unverified: an agent that acts on a bundle verifies it itself.

        Raises
        ------
        ServerRefusalError
            404 ``no_bundles``: nothing was published here; 503 ``bundles_damaged``: the log has the cause.
        """
        folder = self._directory / "metadata"
        if not (folder / "timestamp.json").exists():
            raise ServerRefusalError(404, "no_bundles", "no bundle was published on this server")
        try:
            timestamp = Metadata[Timestamp].from_file(str(folder / "timestamp.json")).signed
            snapshot_version = timestamp.snapshot_meta.version
            snapshot = Metadata[Snapshot].from_file(str(folder / f"{snapshot_version}.snapshot.json")).signed
            versions = {name.removesuffix(".json"): meta.version for name, meta in sorted(snapshot.meta.items())}
            nightly_path = folder / f"{versions['nightly']}.nightly.json"
            manifest = self._manifest(Metadata[Targets].from_file(str(nightly_path)).signed)
        except (BundleError, DeserializationError, RepositoryError, OSError, KeyError, ValueError) as error:
            _log.error("the served bundle repository is damaged", folder=str(self._directory), error=str(error))
            raise ServerRefusalError(503, "bundles_damaged", "the bundle repository is damaged") from error
        return {
            "versions": {**versions, "snapshot": snapshot_version, "timestamp": timestamp.version},
            "expires_at_unix": timestamp.expires.replace(tzinfo=UTC).timestamp(),
            "model_version": manifest.model_version if manifest else None,
            "promoted": manifest.promoted if manifest else None,
            "records": {name: file.records for name, file in sorted(manifest.files.items())} if manifest else {},
        }

    def _manifest(self, targets: Targets) -> Manifest | None:
        listed = targets.targets.get(MANIFEST_NAME)
        if listed is None:
            return None
        path = self._directory / "targets" / MANIFEST_NAME
        return Manifest.from_bytes(path.with_name(f"{listed.hashes['sha256']}.{path.name}").read_bytes())


def is_known(etag: str, if_none_match: str) -> bool:
    """Return whether a client's If-None-Match names the tag.

    Examples
    --------
    >>> is_known('"a"', 'W/"a", "b"'), is_known('"a"', '*'), is_known('"a"', '"b"')
    (True, True, False)
    """
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag in tags


def _unknown(kind: str, name: str) -> ServerRefusalError:
    return ServerRefusalError(404, "unknown_bundle_file", f"the bundle repository has no {kind}/{name[:200]}")

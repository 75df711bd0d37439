"""Bundles that this machine does not try again, by the digest of their manifest.

A bundle that kills the process that tries it out gets a strike; two strikes deny it for good. The file is JSON that an
operator may edit while the agent is stopped: remove a bundle's entry, and it is tried again. A damaged file denies
nothing: it is kept under another name, and the worst that follows is two more trials.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import structlog

from eguard.agent.private_files import write_private

STRIKES_TO_DENY: Final = 2
#: Entries kept, the most recent ones. A repository that never repeats a digest must not fill the disk.
MAX_ENTRIES: Final = 256

_log = structlog.get_logger("eguard.agent")


class DeniedBundle(msgspec.Struct, frozen=True):
    """Why and when a bundle failed. With two `strikes` it is denied."""

    strikes: int
    reason: str
    model_version: str
    last_failed_unix: float


class Denylist:
    """The strikes of one machine, in one file.

    Parameters
    ----------
    path : Path
        The file; its folder has to exist when a strike is noted.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> denylist = Denylist(Path(mkdtemp()) / "denylist.json")
    >>> denylist.strike("aa", "ran for too long", "v1", 0.0), denylist.reason("aa")
    (1, '')
    >>> denylist.strike("aa", "ran for too long", "v1", 9.0), denylist.reason("aa")
    (2, 'ran for too long')
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = self._read()

    def __len__(self) -> int:
        """Return how many bundles are denied."""
        return sum(entry.strikes >= STRIKES_TO_DENY for entry in self._entries.values())

    def reason(self, digest: str) -> str:
        """Return why a bundle is denied; empty when it is not."""
        entry = self._entries.get(digest)
        return entry.reason if entry is not None and entry.strikes >= STRIKES_TO_DENY else ""

    def strike(self, digest: str, reason: str, model_version: str, now_unix: float) -> int:
        """Note that a bundle killed its trial, on the disk, and return how many times it has.

        If the disk refuses, the log says so and the strike counts until this process ends.
        """
        before = self._entries.pop(digest, None)
        strikes = 1 + (before.strikes if before else 0)
        self._entries[digest] = DeniedBundle(strikes, reason, model_version, now_unix)
        while len(self._entries) > MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]
        document = msgspec.json.encode({"format": 1, "bundles": self._entries})
        try:
            write_private(self._path, msgspec.json.format(document, indent=2) + b"\n")
        except OSError as error:
            _log.error("cannot keep denylist", path=str(self._path), reason=str(error))
        return strikes

    def _read(self) -> dict[str, DeniedBundle]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Document).bundles
        except FileNotFoundError:
            return {}
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            aside = self._path.with_name(f"{self._path.name}.damaged")
            self._path.replace(aside)
            _log.error("set aside damaged denylist", path=str(aside), reason=str(error))
            return {}


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    bundles: dict[str, DeniedBundle]

"""Whether a pack is the one that was signed: nothing changed, nothing missing, nothing added."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import Key

from eguard.errors import EvidenceError
from eguard.evidence.pack.writer import MANIFEST_NAME, PACK_TYPE, SEAL_NAME
from eguard.evidence.signing import MAX_ENVELOPE_BYTES, open_sealed, sha256_hex
from eguard.wire.canonical import canonical_json

_CHUNK_BYTES: Final = 1 << 20
_SHOWN: Final = 5


def verify_pack(folder: Path, keys: Iterable[Key]) -> dict[str, Any]:
    """Check the signature of a pack's manifest and every file against it.

    Parameters
    ----------
    folder : Path
        The pack.
    keys : iterable of Key
        Whose packs are believed.

    Returns
    -------
    dict
        ``manifest_sha256`` and the manifest's predicate.

    Raises
    ------
    EvidenceError
        It is not what was signed; ``context["differences"]`` names every file that differs, is missing or was added.
    """
    statement = open_sealed(_read(folder / SEAL_NAME), keys, PACK_TYPE)
    payload = canonical_json(statement)
    wanted = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    differences = [] if _read(folder / MANIFEST_NAME) == payload else [f"{MANIFEST_NAME} is not what was signed"]
    present = set(_walk(folder))
    differences += [f"{name} was added" for name in sorted(present - set(wanted) - {MANIFEST_NAME, SEAL_NAME})]
    for name, digest in sorted(wanted.items()):
        if name not in present:
            differences.append(f"{name} is missing")
        elif _digest(folder / name) != digest:
            differences.append(f"{name} was changed")
    if differences:
        shown = "; ".join(differences[:_SHOWN])
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise EvidenceError(f"{folder} is not the pack that was signed: {shown}{more}", differences=differences)
    return {"manifest_sha256": sha256_hex(payload), **statement["predicate"]}


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_ENVELOPE_BYTES + 1)
    except OSError as error:
        raise EvidenceError(
            f"{path} cannot be read: {error.strerror}", remedy="Name the folder of a pack: eguard evidence verify PACK"
        ) from error


def _walk(folder: Path) -> Iterable[str]:
    """Yield everything below a folder that is no folder, and folders that are links, by relative path."""
    for place, folders, names in os.walk(folder):
        for name in (*names, *(each for each in folders if (Path(place) / each).is_symlink())):
            yield (Path(place) / name).relative_to(folder).as_posix()


def _digest(path: Path) -> str:
    """Return the SHA-256 of a regular file; of a link or a device nothing, which no digest equals."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        found = hashlib.sha256()
        while chunk := stream.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()

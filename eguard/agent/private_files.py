"""Small files of the agent's state: for its user alone, and whole after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

from eguard.baseline.portable_calls import SAFE_FLAGS, replace_file, sync_folder


def make_private_folder(folder: Path) -> None:
    """Make a folder (mode 0700) and its parents where they are missing, and close it to others."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_private(path: Path, data: bytes) -> None:
    """Write `data` (mode 0600) so that after a power cut `path` has either its old content or all of the new."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE_FLAGS
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    replace_file(temporary, path)
    sync_folder(path.parent)

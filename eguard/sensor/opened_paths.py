"""The files behind opened paths: where a relative one lies, and whether it is a program."""

from __future__ import annotations

import os
import stat

from eguard.sensor.ebpf_records import AT_FDCWD


def absolute_path(pid: int, folder: int, path: str) -> str:
    """Return the path from the root on, as far as the process is still there to be asked where it stood.

    Parameters
    ----------
    pid : int
        Who opened it.
    folder : int
        What a relative path starts from: `AT_FDCWD` or a descriptor.
    path : str
        As it was given.

    Examples
    --------
    >>> absolute_path(1, AT_FDCWD, "/etc/hosts")
    '/etc/hosts'
    """
    if path.startswith("/"):
        return path
    link = f"/proc/{pid}/cwd" if folder == AT_FDCWD else f"/proc/{pid}/fd/{folder}"
    try:
        return f"{os.fsencode(os.readlink(link)).decode('utf-8', 'backslashreplace')}/{path}"  # noqa: PTH115
    except OSError:
        return path


def is_program(path: str) -> bool:
    """Return whether a regular file that may be executed is there."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - asked for every opening
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111)

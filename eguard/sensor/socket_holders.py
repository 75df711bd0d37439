"""Which process holds a socket: /proc has the numbers (inodes) of the sockets that each process has open."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_SOCKET_LINK: Final = re.compile(r"socket:\[(\d+)\]")


def holder_of(inode: int, candidates: Sequence[int] = ()) -> int:
    """Return a process that has the socket open: candidates first, then the youngest; 0 if there is none."""
    for pid in (*candidates, *sorted(_pids(), reverse=True)):
        if inode in socket_inodes(pid):
            return pid
    return 0


def oldest_holders(inodes: Iterable[int]) -> dict[int, int]:
    """Return, by inode, the process with the lowest number that holds it; inodes that nobody holds are left out."""
    wanted = set(inodes)
    found: dict[int, int] = {}
    for pid in sorted(_pids()) if wanted else ():
        for inode in socket_inodes(pid):
            if inode in wanted:
                found.setdefault(inode, pid)
    return found


def socket_inodes(pid: int) -> Iterator[int]:
    """Yield the inodes of the sockets that a process has open; none if it is gone or not ours to look at."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208 - thousands of these are read
    except OSError:
        return
    for name in names:
        try:
            link = _SOCKET_LINK.fullmatch(os.readlink(f"{folder}/{name}"))  # noqa: PTH115
        except OSError:
            continue
        if link:
            yield int(link[1])


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - names are wanted

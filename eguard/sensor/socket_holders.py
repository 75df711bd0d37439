"""Which process holds a socket: /proc has the numbers (inodes) of the sockets that each process has open."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from eguard.sensor.procfs import process_ids, read_parent, read_start_ticks

_SOCKET_LINK: Final = re.compile(r"socket:\[(\d+)\]")


def holder_of(inode: int, candidates: Sequence[int] = ()) -> int:
    """Return a process that has the socket open: candidates first, then the youngest; 0 if there is none."""
    for pid in (*candidates, *sorted(process_ids(), reverse=True)):
        if inode in socket_inodes(pid):
            return pid
    return 0


def oldest_holders(inodes: Iterable[int]) -> dict[int, int]:
    """Return, by inode, the process that began first of those that hold it; inodes that nobody holds are left out."""
    holders: dict[int, set[int]] = {each: set() for each in inodes}
    for pid in process_ids() if holders else ():
        for inode in holders.keys() & socket_inodes(pid):
            holders[inode].add(pid)
    found: dict[int, int] = {}
    for inode, pids in holders.items():
        if pids:
            # A parent and its child may begin in one tick of the clock.
            found |= _heirlooms(min(pids, key=read_start_ticks), {inode})
    return found


def first_holders(inodes: Iterable[int], candidates: Sequence[int] = ()) -> dict[int, int]:
    """Return, by inode, who began to hold the socket; inodes that nobody holds are left out.

    Looked at are the candidates, then the youngest, until there is a holder of each: sockets do not stay for long. A
    socket that is held by a process and by its parent is the parent's, and so on upwards.
    """
    wanted = set(inodes)
    found: dict[int, int] = {}
    for pid in dict.fromkeys((*candidates, *sorted(process_ids(), reverse=True))) if wanted else ():
        held = wanted.intersection(socket_inodes(pid))
        found.update(_heirlooms(pid, held))
        wanted -= held
        if not wanted:
            break
    return found


def _heirlooms(pid: int, inodes: set[int]) -> dict[int, int]:
    """Return who of a process and its forebears has had each of the sockets first."""
    found = dict.fromkeys(inodes, pid)
    while inodes and (parent := read_parent(pid)):
        inodes = inodes.intersection(socket_inodes(parent))
        found.update(dict.fromkeys(inodes, parent))
        pid = parent
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

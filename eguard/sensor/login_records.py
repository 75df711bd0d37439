"""Logins as login programs write them down: what is appended to wtmp (logins, logouts) and btmp (failed attempts).

References
----------
wtmp(5); the records are those of glibc on 64-bit Linux, 384 bytes each.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eguard.events import UNCOUNTED, Event, EventClass
from eguard.sensor.names import comm_of_path, decode_name
from eguard.sensor.process_table import KnownProcess

WTMP: Final = Path("/var/log/wtmp")
BTMP: Final = Path("/var/log/btmp")
# type, pid, line, id, user, host, exit status (2), session, seconds, microseconds, address, unused.
_RECORD: Final = struct.Struct("=hxxi32s4s32s256shhiii16s20s")
_USER_PROCESS: Final = 7
_DEAD_PROCESS: Final = 8
_CHECK_SECONDS: Final = 1.0
#: What counts as a login; everything else about sessions is telemetry that no baseline counts.
_COUNTED: Final = frozenset({"login", "login_failed"})


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """One record about a session.

    Attributes
    ----------
    event_type : str
        login, login_failed or logout; of the audit system also authentication, authentication_failed, session_start
        and login_id.
    host : str
        The remote end's name or address as the login program wrote it.
    image_path : str
        The login program, where the record names it.
    """

    time_unix: float
    event_type: str
    pid: int
    user: str
    terminal: str
    host: str
    image_path: str = ""

    def to_event(self, host_id: str, source: str, process: KnownProcess) -> Event:
        """Return the record as an event of the process that wrote it; only attempts to log in are counted."""
        return Event(
            time_unix=self.time_unix,
            host_id=host_id,
            source=source,
            event_class=EventClass.LOGIN if self.event_type in _COUNTED else UNCOUNTED,
            event_type=self.event_type,
            comm=comm_of_path(self.image_path) or process.comm or "login",
            parent_comm=process.parent_comm,
            pid=self.pid,
            parent_pid=process.parent_pid,
            image_path=self.image_path or process.image_path,
            user=self.user,
            target=self.terminal,
            destination_address=self.host,
        )


def parse_login_records(raw: bytes, *, failed: bool = False) -> list[LoginRecord]:
    """Read whole records; of wtmp those that are neither login nor logout (boots, run levels) are left out.

    Parameters
    ----------
    raw : bytes
        Records one after the other; a torn one at the end is not read.
    failed : bool
        They are from btmp, where every record is a failed attempt.
    """
    records = []
    for offset in range(0, len(raw) - _RECORD.size + 1, _RECORD.size):
        kind, pid, line, _, user, host, _, _, _, seconds, microseconds, _, _ = _RECORD.unpack_from(raw, offset)
        event_type = "login_failed" if failed else {_USER_PROCESS: "login", _DEAD_PROCESS: "logout"}.get(kind)
        if event_type is not None:
            when = seconds + microseconds / 1e6
            records.append(LoginRecord(when, event_type, pid, decode_name(user), decode_name(line), decode_name(host)))
    return records


class LoginFile:
    """Follows one file from its end on, also when it is rotated.

    Parameters
    ----------
    path : Path
        The file.
    failed : bool
        It holds failed attempts.
    """

    def __init__(self, path: Path = WTMP, *, failed: bool = False) -> None:
        self._path = path
        self._failed = failed
        self._offset = 0
        self._inode = 0
        self._next_check = 0.0

    def open(self) -> bool:
        """Go to the end of the file; return whether there is one."""
        try:
            status = self._path.stat()
        except OSError:
            return False
        self._inode, self._offset = status.st_ino, status.st_size
        return True

    def read(self) -> Iterator[LoginRecord]:
        """Yield what was appended; looks at most once a second."""
        now = time.monotonic()
        if self._inode == 0 or now < self._next_check:
            return
        self._next_check = now + _CHECK_SECONDS
        try:
            with self._path.open("rb") as stream:
                status = self._path.stat()
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset = status.st_ino, 0
                stream.seek(self._offset)
                raw = stream.read((status.st_size - self._offset) // _RECORD.size * _RECORD.size)
        except OSError:
            return
        self._offset += len(raw)
        yield from parse_login_records(raw, failed=self._failed)

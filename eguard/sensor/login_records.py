"""Logins as the system records them: what is appended to wtmp.

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

WTMP: Final = Path("/var/log/wtmp")
# type, pid, line, id, user, host, exit status (2), session, seconds, microseconds, address, unused.
_RECORD: Final = struct.Struct("=hxxi32s4s32s256shhiii16s20s")
_USER_PROCESS: Final = 7
_DEAD_PROCESS: Final = 8
_CHECK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """One login or logout. `host` is the remote end's name or address as the login program wrote it."""

    time_unix: float
    is_login: bool
    pid: int
    user: str
    terminal: str
    host: str

    def to_event(self, host_id: str, source: str) -> Event:
        """Return the record as an event; a logout is not counted as a login."""
        return Event(
            time_unix=self.time_unix,
            host_id=host_id,
            source=source,
            event_class=EventClass.LOGIN if self.is_login else UNCOUNTED,
            event_type="login" if self.is_login else "logout",
            comm=comm_of_path("login"),
            pid=self.pid,
            user=self.user,
            target=self.terminal,
            destination_address=self.host,
        )


def parse_login_records(raw: bytes) -> list[LoginRecord]:
    """Read whole wtmp records; those that are neither login nor logout (boots, run levels) are left out."""
    records = []
    for offset in range(0, len(raw) - _RECORD.size + 1, _RECORD.size):
        kind, pid, line, _, user, host, _, _, _, seconds, microseconds, _, _ = _RECORD.unpack_from(raw, offset)
        if kind in (_USER_PROCESS, _DEAD_PROCESS):
            when = seconds + microseconds / 1e6
            records.append(
                LoginRecord(when, kind == _USER_PROCESS, pid, decode_name(user), decode_name(line), decode_name(host))
            )
    return records


class LoginRecords:
    """Follows the file from its end on, also when it is rotated.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path = WTMP) -> None:
        self._path = path
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
        yield from parse_login_records(raw)

"""Logins as the kernel's audit system multicasts them: what login programs, PAM and the kernel itself report.

References
----------
Linux, ``include/uapi/linux/audit.h``; the audit project's "Audit event fields" and "Message dictionary".
"""

from __future__ import annotations

import errno
import re
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from eguard.sensor.login_records import LoginRecord
from eguard.sensor.procfs import user_name

NETLINK_AUDIT: Final = 9
#: Multicast group of everything that is logged (AUDIT_NLGRP_READLOG).
READLOG_GROUP: Final = 1
AUDIT_GET: Final = 1000
AUDIT_CONFIG_CHANGE: Final = 1305
_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 1
_NLMSG: Final = struct.Struct("=IHHII")
# audit_status begins with a mask of what is set, then whether the system is enabled.
_STATUS: Final = struct.Struct("=II")
_DATAGRAM_BYTES: Final = 16 * 1024
_ANSWER_SECONDS: Final = 1.0

#: Records about sessions by number: the event when it went well, and when it did not.
_KINDS: Final[dict[int, tuple[str, str]]] = {
    1006: ("login_id", "login_id"),
    1100: ("authentication", "authentication_failed"),
    1105: ("session_start", "session_start"),
    1112: ("login", "login_failed"),
    1113: ("logout", "logout"),
}
_HEAD: Final = re.compile(r"audit\((\d+\.\d+):\d+\): ?")
_PAIR: Final = re.compile(r'([\w-]+)=("[^"]*"|\S*)')
_HEXADECIMAL: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
#: Fields that hold whatever somebody typed, and are in hexadecimal where it would break the record.
_UNTRUSTED: Final = frozenset({"acct", "exe", "terminal", "hostname", "addr"})
_NOTHING: Final = frozenset({"?", "(none)", "unset", "4294967295"})


class AuditMessage(NamedTuple):
    """One netlink message: its type and its text."""

    kind: int
    text: str


def parse_audit_messages(datagram: bytes) -> list[AuditMessage]:
    """Read the messages of one datagram; a torn one ends the reading.

    The audit system's messages are alone in theirs, and some kernels put a length without the header on them.
    """
    messages = []
    offset = 0
    while offset + _NLMSG.size <= len(datagram):
        length, kind, _, _, _ = _NLMSG.unpack_from(datagram, offset)
        end = offset + length if length >= _NLMSG.size else len(datagram)
        if kind >= AUDIT_GET and offset == 0 and end < len(datagram):
            end = len(datagram)
        text = datagram[offset + _NLMSG.size : min(end, len(datagram))].rstrip(b"\x00")
        messages.append(AuditMessage(kind, text.decode("utf-8", "backslashreplace")))
        offset = end + (-end) % 4
    return messages


def parse_login_message(message: AuditMessage) -> LoginRecord | None:
    r"""Read a record about a session; None if it is about anything else or is no record.

    Examples
    --------
    >>> text = (
    ...     "audit(1700000000.250:7): pid=812 uid=0 auid=1000 ses=3 msg='op=login acct=\"eve\" "
    ...     "exe=\"/usr/sbin/sshd\" hostname=? addr=192.0.2.9 terminal=ssh res=failed'"
    ... )
    >>> parse_login_message(AuditMessage(1112, text))  # doctest: +NORMALIZE_WHITESPACE
    LoginRecord(time_unix=1700000000.25, event_type='login_failed', pid=812, user='eve', terminal='ssh',
    host='192.0.2.9', image_path='/usr/sbin/sshd')
    """
    head = _HEAD.match(message.text)
    if message.kind not in _KINDS or head is None:
        return None
    kernels, _, programs = message.text[head.end() :].partition(" msg='")
    # What the kernel says comes first: a program cannot pass another pid off as its own.
    fields = _fields(programs) | _fields(kernels)
    went_well = fields.get("res", "") in ("success", "1", "yes")
    return LoginRecord(
        time_unix=float(head[1]),
        event_type=_KINDS[message.kind][not went_well],
        pid=_number(fields.get("pid", "")),
        user=_account(fields),
        terminal=fields.get("terminal") or fields.get("tty") or "",
        host=fields.get("addr") or fields.get("hostname") or "",
        image_path=fields.get("exe", ""),
    )


def _fields(text: str) -> dict[str, str]:
    fields = {}
    for name, value in _PAIR.findall(text):
        is_quoted = value.startswith('"')
        plain = value.strip('"') if is_quoted else value.rstrip("'")
        if not is_quoted and name in _UNTRUSTED and _HEXADECIMAL.fullmatch(plain):
            plain = bytes.fromhex(plain).decode("utf-8", "backslashreplace")
        if plain not in _NOTHING:
            fields[name] = plain
    return fields


def _account(fields: dict[str, str]) -> str:
    """Return the account's name: as typed, else by the number that the program or the kernel set."""
    number = fields.get("id") or fields.get("auid") or ""
    return fields.get("acct") or (user_name(int(number)) if number.isdecimal() else "")


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


class AuditLogins:
    """The multicast group. It needs CAP_AUDIT_READ, and CAP_AUDIT_CONTROL to ask whether auditing is on.

    Attributes
    ----------
    reason : str
        Why nothing is to be expected from it now; empty if something is.
    overruns : int
        How often the socket's buffer was full; how many records fell out each time the kernel does not say.
    """

    def __init__(self) -> None:
        self.reason = "not open"
        self.overruns = 0
        self._stream: socket.socket | None = None
        self._control: socket.socket | None = None

    def open(self) -> None:
        """Join the group and look whether auditing is on; `reason` has the answer."""
        try:
            self._stream = _netlink(READLOG_GROUP)
            self._stream.setblocking(False)  # noqa: FBT003 - the socket's own signature
            self._control = _netlink(0)
            self._control.settimeout(_ANSWER_SECONDS)
        except OSError as error:
            self.reason = f"the audit group cannot be joined: {error}"
            self.close()
            return
        self.check()

    def check(self) -> None:
        """Look whether auditing is on."""
        if self._control is None:
            return
        try:
            self._control.send(_NLMSG.pack(_NLMSG.size, AUDIT_GET, _NLM_F_REQUEST, 0, 0))
            is_enabled = _enabled(self._control.recv(_DATAGRAM_BYTES))
        except OSError as error:
            self.reason = f"the audit system does not answer: {error}"
        else:
            self.reason = "" if is_enabled else "auditing is switched off"

    def read(self) -> Iterator[LoginRecord]:
        """Yield the records since the last call."""
        while self._stream is not None:
            try:
                datagram = self._stream.recv(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                continue
            for message in parse_audit_messages(datagram):
                if message.kind == AUDIT_CONFIG_CHANGE:
                    self.check()
                elif (record := parse_login_message(message)) is not None:
                    yield record

    def close(self) -> None:
        """Leave the group."""
        for each in (self._stream, self._control):
            if each is not None:
                each.close()
        self._stream = self._control = None


def _netlink(groups: int) -> socket.socket:
    created = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_AUDIT)
    try:
        created.bind((0, groups))
    except OSError:
        created.close()
        raise
    return created


def _enabled(answer: bytes) -> bool:
    """Read the answer to AUDIT_GET.

    Raises
    ------
    OSError
        The kernel refused, or answered something else.
    """
    if len(answer) >= _NLMSG.size + _STATUS.size:
        kind = _NLMSG.unpack_from(answer)[1]
        first, second = _STATUS.unpack_from(answer, _NLMSG.size)
        if kind == AUDIT_GET:
            return bool(second)
        if kind == _NLMSG_ERROR:
            number = -struct.unpack("=i", struct.pack("=I", first))[0]
            raise OSError(number, errno.errorcode.get(number, "refused"))
    raise OSError(errno.EBADMSG, "not an answer")

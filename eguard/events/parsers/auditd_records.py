"""The grammar of Linux audit: records of name=value pairs, and which of them belong to one event.

An event is one or more records under one serial: a system call, the arguments of the program it started, the paths it
touched. Values that could hold blanks are quoted, or written in hexadecimal where they could hold a quote.

References
----------
Linux audit project, "The Linux Audit Documentation", audit event fields and record types; AUOMS (Azure's
collector) writes one record an event with its own names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from eguard.errors import ParseError
from eguard.events.parsers.scalars import Fields, time_from_seconds

_HEAD: Final = re.compile(
    r"(?:node=(?P<node>\S+) )?type=(?P<type>\w+) (?:msg=)?audit\((?P<time>[\d.]+):(?P<serial>\d+)\): ?"
)
_PAIR: Final = re.compile(r"""([A-Za-z_][\w-]*)=("(?:[^"\\]|\\.)*"|'[^']*'|\[[^\]]*\]|\S*)""")
#: AUOMS does not quote these soundly; what follows them in its records is known.
_AUOMS_FREE_TEXT: Final = re.compile(r" (cmdline|proctitle)=(.*) redactors=")
#: A string in a printed list, and whether it is a key.
_LISTED: Final = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(\s*:)?""")
_HEXADECIMAL: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Records of one serial, by type; of paths, the first (the file itself) stands for all."""

    time_unix: float
    node: str
    records: dict[str, Fields]

    @property
    def merged(self) -> Fields:
        """All pairs in one; the program's arguments go before the call's registers of the same names."""
        merged: Fields = {}
        for kind in sorted(self.records, key=lambda kind: kind != "EXECVE"):
            for name, value in self.records[kind].items():
                merged.setdefault(name, value)
        return merged


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One line of an audit log."""

    kind: str
    time_unix: float
    serial: str
    node: str
    pairs: Fields


def parse_line(text: str) -> AuditRecord:
    """Return a record as ``audit.log`` and AUOMS write it.

    Raises
    ------
    ParseError
        The line is none; ``context["reason"]`` is ``bad_record`` or ``bad_time``.

    Examples
    --------
    >>> record = parse_line('type=CWD msg=audit(1550505632.285:9077924): cwd="/var/lib"')
    >>> record.kind, record.time_unix, record.serial, record.pairs
    ('CWD', 1550505632.285, '9077924', {'cwd': '/var/lib'})
    """
    head = _HEAD.match(text)
    if not head:
        raise ParseError("the line is no audit record", reason="bad_record")
    body = text[head.end() :]
    pairs: Fields = {}
    if free := _AUOMS_FREE_TEXT.search(body):
        pairs[free[1]] = _unquoted(free[2])
        body = body[: free.start()]
    pairs = {name: _unquoted(value) for name, value in _PAIR.findall(body.replace("\x1d", " "))} | pairs
    node = head["node"] or pairs.get("node", "")
    return AuditRecord(head["type"], time_from_seconds(head["time"]), head["serial"], node, pairs)


def parse_message_list(text: str) -> dict[str, Fields]:
    """Return records written as a list of ``{type: ["name=value", ...]}``, as a log workspace exports them.

    Raises
    ------
    ParseError
        The text is no such list; ``context["reason"]`` is ``bad_record``.
    """
    records: dict[str, Fields] = {}
    pairs: Fields | None = None
    for text_in_quotes, is_key in _LISTED.findall(text):
        item = re.sub(r"\\(.)", r"\1", text_in_quotes[1:-1])
        if is_key:
            pairs = {}
            records.setdefault(item, pairs)
        elif pairs is not None:
            name, _, value = item.removeprefix("msg='").rstrip("'").partition("=")
            pairs[name] = _unquoted(value)
    if not (records and text.startswith("[{") and text.rstrip().endswith("}]")):
        raise ParseError("the audit message is no list of records", reason="bad_record")
    return records


def arguments(execve: Fields) -> Iterator[str]:
    """Yield the arguments of an EXECVE record in order. Those in hexadecimal are decoded."""
    for index in range(len(execve)):
        value = execve.get(f"a{index}")
        if value is None:
            return
        yield from_hexadecimal(value)


def from_hexadecimal(value: str) -> str:
    """Return text that was written in hexadecimal; other text as it is. NUL separates arguments.

    Examples
    --------
    >>> from_hexadecimal("2F62696E2F7368002D63"), from_hexadecimal("ls -l")
    ('/bin/sh -c', 'ls -l')
    """
    if not _HEXADECIMAL.fullmatch(value) or len(value) < 6:
        return value
    decoded = bytes.fromhex(value).rstrip(b"\0").replace(b"\0", b" ")
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        return value
    return text if text.isprintable() else value


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value

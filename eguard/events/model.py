"""One event as every source delivers it, and the eight classes that a baseline counts.

The classes are the wire's (`docs/reference/contracts.md`): their index is the position in every distribution that an
agent uploads, so they are never reordered.
"""

from __future__ import annotations

from enum import IntEnum, unique

import msgspec


@unique
class EventClass(IntEnum):
    """What kind of thing happened. Sources report finer types; `Event.event_type` keeps those words."""

    PROCESS_EXEC = 0
    PROCESS_EXIT = 1
    FILE_OPEN = 2
    NETWORK_CONNECT = 3
    DNS_QUERY = 4
    MODULE_LOAD = 5
    LOGIN = 6
    ALERT = 7


N_EVENT_CLASSES = len(EventClass)

#: Marks telemetry outside the eight classes (handle operations, registry writes, pipes, ...). Such events reach the
#: process tree, the rules and the features; no baseline counts them.
UNCOUNTED = -1


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record of telemetry. Unknown text is the empty string, an unknown number is 0.

    `event_class` is an `EventClass` value or `UNCOUNTED`. `comm` and `parent_comm` are base names (lower case where the
    operating system ignores case). `process_guid` and `parent_guid` identify a process beyond its reusable pid, where
    the source has such an identity. `fields` holds the source's own fields under the names of the Sigma taxonomy
    (``Image``, ``CommandLine``, ``TargetObject``, ...), for the rules of layer 2.
    """

    time_unix: float
    host_id: str
    event_class: int
    comm: str = ""
    parent_comm: str = ""
    source: str = ""
    event_type: str = ""
    event_code: int = 0
    group: str = ""
    pid: int = 0
    parent_pid: int = 0
    process_guid: str = ""
    parent_guid: str = ""
    user: str = ""
    is_elevated: bool = False
    image_path: str = ""
    command_line: str = ""
    target: str = ""
    destination_address: str = ""
    destination_port: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    duration_seconds: float = 0.0
    event_bytes: int = 0
    file_sha256: str = ""
    rule_id: str = ""
    detector: str = ""
    label: str = ""
    fields: dict[str, str] | None = None

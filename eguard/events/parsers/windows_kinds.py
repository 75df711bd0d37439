"""What Windows event ids mean: the one table from (source, event id) to event type and class.

The words for event types are those of the shipped Sysmon CSV, so that a record says the same whether it comes from the
original log or from that table.

References
----------
Microsoft, Sysmon 15, "Events"; Microsoft, "Appendix L: Events to monitor" and the audit event reference.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from eguard.events.model import UNCOUNTED, EventClass


class EventKind(NamedTuple):
    """The word for an event and the class that a baseline counts it under."""

    event_type: str
    event_class: int = UNCOUNTED


OTHER: Final = EventKind("other")

_EXEC = EventKind("exec", EventClass.PROCESS_EXEC)
_EXIT = EventKind("exit", EventClass.PROCESS_EXIT)
_NET = EventKind("net", EventClass.NETWORK_CONNECT)
_FILE_DELETE = EventKind("file_delete", EventClass.FILE_OPEN)
_FILE_BLOCK = EventKind("file_block", EventClass.FILE_OPEN)

SYSMON_KINDS: Final[dict[int, EventKind]] = {
    1: _EXEC,
    2: EventKind("file_time", EventClass.FILE_OPEN),
    3: _NET,
    4: EventKind("sysmon_state"),
    5: _EXIT,
    6: EventKind("driver_load", EventClass.MODULE_LOAD),
    7: EventKind("module_load", EventClass.MODULE_LOAD),
    8: EventKind("remote_thread"),
    9: EventKind("raw_read"),
    10: EventKind("proc_access"),
    11: EventKind("file_create", EventClass.FILE_OPEN),
    12: EventKind("reg_key"),
    13: EventKind("reg_set"),
    14: EventKind("reg_rename"),
    15: EventKind("file_stream", EventClass.FILE_OPEN),
    16: EventKind("sysmon_config"),
    17: EventKind("pipe_create"),
    18: EventKind("pipe_connect"),
    19: EventKind("wmi"),
    20: EventKind("wmi"),
    21: EventKind("wmi"),
    22: EventKind("dns", EventClass.DNS_QUERY),
    23: _FILE_DELETE,
    24: EventKind("clipboard"),
    25: EventKind("tamper"),
    26: _FILE_DELETE,
    27: _FILE_BLOCK,
    28: _FILE_BLOCK,
    29: EventKind("file_exec", EventClass.FILE_OPEN),
    255: EventKind("sysmon_error"),
}

SECURITY_KINDS: Final[dict[int, EventKind]] = {
    1102: EventKind("log_clear"),
    4624: EventKind("logon", EventClass.LOGIN),
    4625: EventKind("logon_fail", EventClass.LOGIN),
    4634: EventKind("logoff", EventClass.LOGIN),
    4647: EventKind("logoff", EventClass.LOGIN),
    4648: EventKind("logon_explicit", EventClass.LOGIN),
    4656: EventKind("handle_req"),
    4657: EventKind("reg_set"),
    4658: EventKind("handle_close"),
    4661: EventKind("sam_access"),
    4662: EventKind("dir_access"),
    4663: EventKind("obj_access"),
    4670: EventKind("perm_change"),
    4672: EventKind("priv_logon"),
    4673: EventKind("priv_use"),
    4688: _EXEC,
    4689: _EXIT,
    4690: EventKind("handle_dup"),
    4697: EventKind("svc_install"),
    4698: EventKind("task_create"),
    4699: EventKind("task_delete"),
    4700: EventKind("task_update"),
    4701: EventKind("task_update"),
    4702: EventKind("task_update"),
    4703: EventKind("priv_adj"),
    5140: EventKind("share"),
    5145: EventKind("share_access"),
    5152: EventKind("net_block"),
    5154: EventKind("net_listen"),
    5156: _NET,
    5157: EventKind("net_block"),
    5158: EventKind("net_bind"),
}

#: By source name. Sysmon for Linux speaks Sysmon's event ids.
KINDS: Final[dict[str, dict[int, EventKind]]] = {
    "sysmon": SYSMON_KINDS,
    "linux-sysmon": SYSMON_KINDS,
    "security": SECURITY_KINDS,
}

CLASS_OF_EVENT_TYPE: Final[dict[str, int]] = {
    kind.event_type: kind.event_class for kinds in KINDS.values() for kind in kinds.values()
}


def event_kind(source: str, event_code: int) -> EventKind:
    """Return the kind of a Windows event; `OTHER` if the table does not name it.

    Examples
    --------
    >>> event_kind("security", 4688)
    EventKind(event_type='exec', event_class=<EventClass.PROCESS_EXEC: 0>)
    >>> event_kind("security", 1)
    EventKind(event_type='other', event_class=-1)
    """
    return KINDS.get(source, {}).get(event_code, OTHER)

"""Which of Sigma's log sources an event belongs to: the one place where sources, codes and types are translated.

Sigma addresses rules by product, category and service. A process start is ``process_creation`` whether Sysmon (event
1), the Security log (4688), Defender, auditd (execve), osquery or eGuard's own sensors saw it.

References
----------
Sigma specification 2.1, appendix "taxonomy"; Microsoft Sysmon, list of event ids.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from eguard.events.model import EventClass


class LogSource(NamedTuple):
    """What an event is, in Sigma's words."""

    product: str
    categories: frozenset[str]
    services: frozenset[str]
    event_code: int = 0


#: Sysmon's event ids.
_SYSMON: Final[dict[int, tuple[str, ...]]] = {
    1: ("process_creation",),
    2: ("file_change",),
    3: ("network_connection",),
    5: ("process_termination",),
    6: ("driver_load",),
    7: ("image_load",),
    8: ("create_remote_thread",),
    9: ("raw_access_thread",),
    10: ("process_access",),
    11: ("file_event",),
    12: ("registry_event",),
    13: ("registry_set", "registry_event"),
    14: ("registry_rename", "registry_event"),
    15: ("create_stream_hash",),
    17: ("pipe_created",),
    18: ("pipe_created",),
    19: ("wmi_event",),
    20: ("wmi_event",),
    21: ("wmi_event",),
    22: ("dns_query",),
    23: ("file_delete",),
    24: ("clipboard_capture",),
    25: ("process_tampering",),
    26: ("file_delete",),
    27: ("file_block_executable",),
    28: ("file_block_shredding",),
    29: ("file_executable_detected",),
}
#: Sysmon 12 tells creation from deletion only by its field EventType.
_REGISTRY_ACTIONS: Final = {
    "createkey": "registry_add",
    "deletekey": "registry_delete",
    "deletevalue": "registry_delete",
}
#: Events of the Security log that also are one of the generic categories.
_SECURITY: Final[dict[int, tuple[str, ...]]] = {4688: ("process_creation",), 5156: ("network_connection",)}
#: eGuard's own words for event types, as every parser and sensor uses them.
_EVENT_TYPES: Final[dict[str, tuple[str, ...]]] = {
    "exec": ("process_creation",),
    "exit": ("process_termination",),
    "net": ("network_connection",),
    "connect": ("network_connection",),
    "tcp_accept": ("network_connection",),
    "dns": ("dns_query",),
    "module_load": ("image_load",),
    "driver_load": ("driver_load",),
    "proc_access": ("process_access",),
    "remote_thread": ("create_remote_thread",),
    "file_create": ("file_event",),
    "file_delete": ("file_delete",),
    "file_time": ("file_change",),
    "file_rename": ("file_rename",),
    "file_exec": ("file_executable_detected",),
    "file_stream": ("create_stream_hash",),
    "reg_key": ("registry_event",),
    "reg_set": ("registry_set", "registry_event"),
    "reg_rename": ("registry_rename", "registry_event"),
    "pipe_create": ("pipe_created",),
    "pipe_connect": ("pipe_created",),
}
#: What is left to go by when a source uses words of its own.
_EVENT_CLASSES: Final[dict[int, tuple[str, ...]]] = {
    EventClass.PROCESS_EXEC: ("process_creation",),
    EventClass.PROCESS_EXIT: ("process_termination",),
    EventClass.NETWORK_CONNECT: ("network_connection",),
    EventClass.DNS_QUERY: ("dns_query",),
    EventClass.MODULE_LOAD: ("image_load",),
}
#: Zeek's logs that serve Sigma's generic network categories.
_ZEEK: Final[dict[str, tuple[str, ...]]] = {"dns": ("dns",), "http": ("proxy", "webserver"), "conn": ("firewall",)}
#: Windows event channels and Sigma's name for the service behind each.
_CHANNELS: Final[dict[str, str]] = {
    "application": "application",
    "microsoft-windows-appxdeploymentserver/operational": "appxdeployment-server",
    "microsoft-windows-dns-server/analytical": "dns-server-analytic",
    "microsoft-windows-powershell/operational": "powershell",
    "microsoft-windows-printservice/admin": "printservice-admin",
    "microsoft-windows-printservice/operational": "printservice-operational",
    "microsoft-windows-security-mitigations/kernel mode": "security-mitigations",
    "microsoft-windows-security-mitigations/user mode": "security-mitigations",
    "microsoft-windows-smbclient/connectivity": "smbclient-connectivity",
    "microsoft-windows-sysmon/operational": "sysmon",
    "microsoft-windows-taskscheduler/operational": "taskscheduler",
    "microsoft-windows-windows defender/operational": "windefend",
    "microsoft-windows-windows firewall with advanced security/firewall": "firewall-as",
    "microsoft-windows-wmi-activity/operational": "wmi",
    "linux-sysmon/operational": "sysmon",
    "msexchange management": "msexchange-management",
    "security": "security",
    "system": "system",
    "windows powershell": "powershell-classic",
}
#: PowerShell's events that are categories of their own.
_POWERSHELL: Final[dict[tuple[str, int], tuple[str, ...]]] = {
    ("powershell", 4103): ("ps_module",),
    ("powershell", 4104): ("ps_script",),
    ("powershell-classic", 400): ("ps_classic_start",),
}
#: Sources that watch Linux unless a path says otherwise.
_LINUX_SOURCES: Final = ("auditd", "auoms", "osquery", "ebpf", "proc_connector", "linux")


def log_source_of(
    source: str,
    event_code: int,
    event_type: str,
    event_class: int,
    *,
    image: str = "",
    channel: str = "",
    registry_action: str = "",
) -> LogSource:
    r"""Return the log source of an event.

    Parameters
    ----------
    source : str
        Who delivered it (``sysmon``, ``security``, ``auditd``, ``zeek-dns``, ...).
    event_code : int
        The source's own number for the kind of event; 0 if it has none.
    event_type : str
        eGuard's word for the kind of event.
    event_class : int
        `EventClass` or ``UNCOUNTED``; decides only where code and type say nothing.
    image : str
        Path of the process's program: a leading slash means Linux.
    channel : str
        Windows event channel, where the record names it.
    registry_action : str
        Sysmon's field EventType of registry events.

    Examples
    --------
    >>> sorted(log_source_of("sysmon", 12, "reg_key", -1, registry_action="DeleteKey").categories)
    ['registry_delete', 'registry_event']
    >>> log_source_of("auditd", 0, "exec", 0).product
    'linux'
    """
    name = source.lower()
    if name.startswith("zeek"):
        return _zeek(name, event_type)
    product = "linux" if image.startswith("/") or name.startswith(_LINUX_SOURCES) else "windows"
    service = _CHANNELS.get(channel.lower()) or _service_of(name)
    categories: tuple[str, ...] = ()
    if service == "sysmon" and event_code:
        categories = _SYSMON.get(event_code, ())
        if event_code == 12:
            action = _REGISTRY_ACTIONS.get(registry_action.lower())
            categories = (*categories, action) if action else categories
    elif service == "security" and event_code:
        categories = _SECURITY.get(event_code, ())
    elif (service, event_code) in _POWERSHELL:
        categories = _POWERSHELL[service, event_code]
    elif not channel:
        categories = _EVENT_TYPES.get(event_type) or _EVENT_CLASSES.get(event_class, ())
    return LogSource(product, frozenset(categories), frozenset({service} - {""}), event_code)


def _service_of(name: str) -> str:
    """Return Sigma's service for a source that names no channel."""
    if "sysmon" in name:
        return "sysmon"
    if name.startswith("security"):
        return "security"
    if name.startswith(("auditd", "auoms")):
        return "auditd"
    return name if name in _CHANNELS.values() else ""


def _zeek(name: str, event_type: str) -> LogSource:
    """Return the source of a Zeek record, whose log is the end of the source's name or the event type."""
    log = name.removeprefix("zeek").lstrip("-_:. ") or event_type.lower()
    return LogSource("zeek", frozenset(_ZEEK.get(log, ())), frozenset({log}))


def is_delivered(product: str, category: str, service: str) -> bool:
    """Return whether some source that eGuard reads can yield events of this log source.

    Examples
    --------
    >>> is_delivered("windows", "process_creation", ""), is_delivered("okta", "", "okta")
    (True, False)
    """
    host_categories = {
        *(name for names in (_SYSMON | _EVENT_TYPES).values() for name in names),
        *_REGISTRY_ACTIONS.values(),
    }
    delivered = {
        "windows": (
            host_categories | {name for names in _POWERSHELL.values() for name in names},
            set(_CHANNELS.values()),
        ),
        "linux": (host_categories, {"auditd", "sysmon"}),
        "zeek": ({name for names in _ZEEK.values() for name in names}, {"conn", "dns", "http", "ssl"}),
    }
    candidates = delivered.values() if not product else [delivered[product]] if product in delivered else []
    return any(
        (not category or category in categories) and (not service or service in services)
        for categories, services in candidates
    )

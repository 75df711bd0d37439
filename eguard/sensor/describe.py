"""From a known process to an event: the columns that every sensor fills the same way."""

from __future__ import annotations

from typing import Any

from eguard.events import Event
from eguard.sensor.process_table import KnownProcess
from eguard.sensor.procfs import user_name


def describe_event(
    process: KnownProcess,
    *,
    time_unix: float,
    host_id: str,
    source: str,
    event_class: int,
    event_type: str,
    **columns: Any,
) -> Event:
    """Return an event of `process`; `columns` are further fields of `Event`."""
    return Event(
        time_unix=time_unix,
        host_id=host_id,
        event_class=event_class,
        source=source,
        event_type=event_type,
        comm=process.comm,
        parent_comm=process.parent_comm,
        pid=process.pid,
        parent_pid=process.parent_pid,
        user=user_name(process.uid) if process.uid >= 0 else "",
        is_elevated=process.uid == 0,
        image_path=process.image_path,
        command_line=process.command_line,
        **columns,
    )

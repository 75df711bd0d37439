"""The portable sensor: compares what runs and what is connected with what did a moment ago.

It works wherever psutil does, without privileges, and sees what lasts. Whatever begins and ends between two looks, it
never learns of, and so cannot count: short commands and short connections, every file, every DNS query.
"""

from __future__ import annotations

import importlib
import socket
import time
from typing import Any, Final

from eguard.errors import SensorUnavailableError
from eguard.events import Event, EventBatch, EventClass
from eguard.sensor.counters import SensorCounters
from eguard.sensor.describe import describe_event
from eguard.sensor.intake import EventIntake
from eguard.sensor.process_table import KnownProcess

#: Time between two looks.
DEFAULT_INTERVAL_SECONDS: Final = 0.5
#: What no comparison of two moments shows; printed by `eguard sensor list`.
BLIND_SPOTS: Final = "sees only what lasts longer than its interval; no files, DNS names or modules"
_TCP_OUTGOING: Final = frozenset({"ESTABLISHED", "SYN_SENT", "CLOSE_WAIT", "FIN_WAIT1", "FIN_WAIT2"})

_ProcessIdentity = tuple[int, float]
_Connection = tuple[int, str, int, str, int]


def load_psutil() -> Any:
    """Import psutil.

    Raises
    ------
    SensorUnavailableError
        It is not installed.
    """
    try:
        return importlib.import_module("psutil")
    except ModuleNotFoundError as error:
        raise SensorUnavailableError(
            "the package psutil is not installed",
            remedy="Install the extra that brings it: pip install 'eguard[agent]'",
        ) from error


class PsutilSensor:
    """Polling behind the sensor protocol.

    Parameters
    ----------
    host_id : str, optional
        Name of this endpoint; the machine's own by default.
    interval_seconds : float
        Time between two looks. Half of it is how late an event is on average.
    """

    name = "psutil"

    def __init__(self, host_id: str = "", interval_seconds: float = DEFAULT_INTERVAL_SECONDS) -> None:
        self.host_id = host_id or socket.gethostname()
        self.interval_seconds = interval_seconds
        self.classes = frozenset(
            {EventClass.PROCESS_EXEC, EventClass.PROCESS_EXIT, EventClass.NETWORK_CONNECT, EventClass.LOGIN}
        )
        self.is_exhausted = False
        self._intake = EventIntake()
        self._psutil: Any = None
        self._processes: dict[_ProcessIdentity, KnownProcess] = {}
        self._by_pid: dict[int, KnownProcess] = {}
        self._connections: set[_Connection] = set()
        self._sessions: set[tuple[str, str, str, float, int]] = set()
        self._next_look = 0.0

    @property
    def counters(self) -> SensorCounters:
        """Return the totals since `open`."""
        return self._intake.counters

    def open(self) -> None:
        """Take the first look; what is there already is no event."""
        self._psutil = load_psutil()
        self._look(report=False)

    def poll(self, timeout_seconds: float) -> EventBatch:
        """Return the next events; see `Sensor`. Looks at most once in an interval."""
        until = time.monotonic() + timeout_seconds
        while not self._intake:
            now = time.monotonic()
            if now >= self._next_look:
                self._look(report=True)
            elif now >= until:
                break
            else:
                time.sleep(min(self._next_look, until) - now)
        return self._intake.take()

    def close(self) -> None:
        """Nothing is held open."""

    def _look(self, *, report: bool) -> None:
        self._next_look = time.monotonic() + self.interval_seconds
        now = time.time()
        started, ended = self._compare_processes()
        connected = self._compare_connections()
        logged_in = self._compare_sessions()
        if not report:
            return
        for process, created in started:
            # Of all that is found, only this says when it happened; how late that is goes by the steady clock.
            started_ns = time.monotonic_ns() - int(max(now - created, 0.0) * 1e9)
            self._add(process, created, EventClass.PROCESS_EXEC, "exec", started_ns)
        for pid, address, port in connected:
            process = self._by_pid.get(pid) or KnownProcess(pid)
            self._add(
                process, now, EventClass.NETWORK_CONNECT, "connect", destination_address=address, destination_port=port
            )
        for process in ended:
            self._add(process, now, EventClass.PROCESS_EXIT, "exit")
        for user, terminal, host, since, pid in logged_in:
            self._intake.add(
                Event(time_unix=since, host_id=self.host_id, source=self.name, event_class=EventClass.LOGIN,
                      event_type="login", user=user, target=terminal, destination_address=host, pid=pid)
            )  # fmt: skip

    def _compare_processes(self) -> tuple[list[tuple[KnownProcess, float]], list[KnownProcess]]:
        """Return the processes that are new, with the times of their start, and those that are gone."""
        seen: dict[_ProcessIdentity, KnownProcess] = {}
        new: list[tuple[KnownProcess, float]] = []
        for process in self._psutil.process_iter():
            try:
                identity = (process.pid, process.create_time())
                known = self._processes.get(identity)
                if known is None:
                    known = self._describe(process)
                    new.append((known, identity[1]))
                elif process.name() != known.comm:
                    # Another image is another execution; under the same image the process renamed itself.
                    before, known = known, self._describe(process)
                    if known.image_path != before.image_path:
                        new.append((known, max(identity[1], time.time() - self.interval_seconds)))
                seen[identity] = known
            except self._psutil.Error:
                continue
        ended = [known for identity, known in self._processes.items() if identity not in seen]
        self._processes = seen
        self._by_pid = {known.pid: known for known in seen.values()}
        for known, _ in new:
            parent = self._by_pid.get(known.parent_pid)
            known.parent_comm = known.parent_comm or ("" if parent is None else parent.comm)
        return sorted(new, key=lambda each: each[1]), ended

    def _describe(self, process: Any) -> KnownProcess:
        """Ask for what the system lets us know; a field that it refuses stays empty."""
        with process.oneshot():
            known = KnownProcess(process.pid, process.ppid(), process.name())
            known.command_line = self._ask(lambda: " ".join(process.cmdline()), "")
            known.image_path = self._ask(process.exe, "") or ""
            known.uid = self._ask(lambda: process.uids().effective, -1)
        return known

    def _ask(self, question: Any, refused: Any) -> Any:
        try:
            return question()
        except (self._psutil.Error, AttributeError, OSError):
            # AttributeError: there are no numeric users on Windows.
            return refused

    def _compare_connections(self) -> list[tuple[int, str, int]]:
        """Return pid and destination of TCP connections that are new and that a process here holds."""
        try:
            listed = self._psutil.net_connections(kind="tcp")
        except (self._psutil.Error, OSError):
            return []
        listening = {each.laddr.port for each in listed if each.status == "LISTEN"}
        now: set[_Connection] = {
            (each.pid or 0, each.laddr.ip, each.laddr.port, each.raddr.ip, each.raddr.port)
            for each in listed
            if each.raddr and each.status in _TCP_OUTGOING and each.laddr.port not in listening
        }
        new = sorted(now - self._connections)
        self._connections = now
        return [(pid, address, port) for pid, _, _, address, port in new]

    def _compare_sessions(self) -> list[tuple[str, str, str, float, int]]:
        sessions = {
            (each.name, each.terminal or "", each.host or "", each.started, each.pid or 0)
            for each in self._psutil.users()
        }
        new = sorted(sessions - self._sessions)
        self._sessions = sessions
        return new

    def _add(
        self,
        process: KnownProcess,
        time_unix: float,
        event_class: EventClass,
        kind: str,
        monotonic_ns: int = 0,
        **columns: Any,
    ) -> None:
        event = describe_event(
            process,
            time_unix=time_unix,
            host_id=self.host_id,
            source=self.name,
            event_class=event_class,
            event_type=kind,
            **columns,
        )
        self._intake.add(event, monotonic_ns)

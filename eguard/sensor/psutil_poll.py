"""The portable sensor: compares what runs and what is connected with what did a moment ago.

It works wherever psutil does, without privileges, and sees what lasts. Whatever begins and ends between two looks, it
never learns of, and so cannot count: short commands and short connections, every file, every DNS query.

Where there is a /proc as Linux has it, what changed since the last look is found there, which costs a hundredth; psutil
then describes the processes that are new. The same is seen either way.
"""

from __future__ import annotations

import importlib
import socket
import time
from typing import Any, Final, NamedTuple

from eguard.errors import SensorUnavailableError
from eguard.events import Event, EventBatch, EventClass
from eguard.sensor.counters import SensorCounters
from eguard.sensor.describe import describe_event
from eguard.sensor.intake import EventIntake
from eguard.sensor.open_connections import OpenConnections, ProcConnections, PsutilConnections
from eguard.sensor.process_table import KnownProcess
from eguard.sensor.procfs import has_processes
from eguard.sensor.running_processes import ProcessChanges, ProcProcesses, PsutilProcesses, RunningProcesses

#: Time between two looks.
DEFAULT_INTERVAL_SECONDS: Final = 0.5
#: What no comparison of two moments shows; printed by `eguard sensor list`.
BLIND_SPOTS: Final = "sees only what lasts longer than its interval; no files, DNS names or modules"


class _Looks(NamedTuple):
    processes: RunningProcesses
    connections: OpenConnections


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
    reads_proc : bool, optional
        Whether changes are found in /proc; by default, where there is one.
    """

    name = "psutil"

    def __init__(
        self,
        host_id: str = "",
        interval_seconds: float = DEFAULT_INTERVAL_SECONDS,
        *,
        reads_proc: bool | None = None,
    ) -> None:
        self.host_id = host_id or socket.gethostname()
        self.interval_seconds = interval_seconds
        self.classes = frozenset(
            {EventClass.PROCESS_EXEC, EventClass.PROCESS_EXIT, EventClass.NETWORK_CONNECT, EventClass.LOGIN}
        )
        self.is_exhausted = False
        self._intake = EventIntake()
        self._reads_proc = has_processes() if reads_proc is None else reads_proc
        self._psutil: Any = None
        self._looks: _Looks | None = None
        self._processes: dict[int, KnownProcess] = {}
        self._sessions: set[tuple[str, str, str, float, int]] = set()
        self._next_look = 0.0

    @property
    def counters(self) -> SensorCounters:
        """Return the totals since `open`."""
        return self._intake.counters

    def open(self) -> None:
        """Take the first look; what is there already is no event."""
        self._psutil = load_psutil()
        if self._reads_proc:
            self._looks = _Looks(ProcProcesses(), ProcConnections())
        else:
            self._looks = _Looks(PsutilProcesses(self._psutil), PsutilConnections(self._psutil))
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
        """Give back what the looks hold open, and forget what they found."""
        if self._looks is not None:
            self._looks.processes.close()
            self._looks = None
        self._processes.clear()
        self._sessions.clear()

    def _opened(self) -> _Looks:
        if self._looks is None:
            raise SensorUnavailableError("the psutil sensor is not open", remedy="Call open() first.")
        return self._looks

    def _look(self, *, report: bool) -> None:
        self._next_look = time.monotonic() + self.interval_seconds
        now = time.time()
        looks = self._opened()
        started, ended = self._compare_processes(looks.processes.compare())
        connected = looks.connections.compare()
        logged_in = self._compare_sessions()
        if not report:
            return
        for process, created in started:
            # Of all that is found, only this says when it happened; how late that is goes by the steady clock.
            started_ns = time.monotonic_ns() - int(max(now - created, 0.0) * 1e9)
            self._add(process, created, EventClass.PROCESS_EXEC, "exec", started_ns)
        for pid, address, port in connected:
            process = self._processes.get(pid) or KnownProcess(pid)
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

    def _compare_processes(
        self, changes: ProcessChanges
    ) -> tuple[list[tuple[KnownProcess, float]], list[KnownProcess]]:
        """Return the processes that are new, with the times of their start, and those that are gone."""
        ended = [self._processes.pop(pid) for pid in changes.gone if pid in self._processes]
        new: list[tuple[KnownProcess, float]] = []
        for pid in (*changes.renamed, *changes.appeared):
            described = self._describe(pid)
            if described is None:
                continue
            process, created = described
            before = self._processes.get(pid)
            if before is None:
                new.append((process, created))
            else:
                process.parent_comm = before.parent_comm
                # Another image is another execution; under the same image the process renamed itself.
                if process.image_path != before.image_path:
                    new.append((process, max(created, time.time() - self.interval_seconds)))
            self._processes[pid] = process
        for process, _ in new:
            parent = self._processes.get(process.parent_pid)
            process.parent_comm = process.parent_comm or ("" if parent is None else parent.comm)
        return sorted(new, key=lambda each: each[1]), ended

    def _describe(self, pid: int) -> tuple[KnownProcess, float] | None:
        """Ask for what the system lets us know, and the time of its start; a field that it refuses stays empty."""
        try:
            process = self._psutil.Process(pid)
            with process.oneshot():
                known = KnownProcess(pid, process.ppid(), process.name())
                known.command_line = self._ask(lambda: " ".join(process.cmdline()), "")
                known.image_path = self._ask(process.exe, "") or ""
                known.uid = self._ask(lambda: process.uids().effective, -1)
                return known, process.create_time()
        except self._psutil.Error:
            return None

    def _ask(self, question: Any, refused: Any) -> Any:
        try:
            return question()
        except (self._psutil.Error, AttributeError, OSError):
            # AttributeError: there are no numeric users on Windows.
            return refused

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

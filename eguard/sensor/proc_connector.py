"""Executions and exits from the kernel's process connector: no compiler, no headers, root only.

The kernel says which pid executed something; the name is then read from /proc. A process that is gone by that time is
reported without a name and counted as unresolved. DNS queries come from the packet tap, where a socket for it can be
had.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import time
from typing import Final

from eguard.errors import SensorUnavailableError
from eguard.events import BATCH_EVENTS, UNCOUNTED, EventBatch, EventClass
from eguard.sensor.counters import SensorCounters
from eguard.sensor.kernel_watch import KernelWatch
from eguard.sensor.proc_messages import (
    NETLINK_CONNECTOR,
    PROC_GROUP,
    ProcEventKind,
    ProcMessage,
    SequenceGaps,
    control_message,
    parse_messages,
)
from eguard.sensor.process_table import KnownProcess
from eguard.sensor.procfs import read_process

#: Messages wait here while a batch is worked on; a message takes about 1 KiB of it.
RECEIVE_BUFFER_BYTES: Final = 16 * 1024 * 1024
_ACK_SECONDS: Final = 1.0
_DATAGRAM_BYTES: Final = 4096
# Python's socket module has no name for it.
_SO_RCVBUFFORCE: Final = 33
_REMEDY: Final = "Run it as root (CAP_NET_ADMIN) outside of containers, or choose --sensor psutil."


class ProcConnectorSensor:
    """The process connector behind the sensor protocol.

    Parameters
    ----------
    host_id : str, optional
        Name of this endpoint; the machine's own by default.
    """

    name = "proc_connector"

    def __init__(self, host_id: str = "") -> None:
        self._watch = KernelWatch(self.name, host_id)
        self.host_id = self._watch.host_id
        self.classes = frozenset({EventClass.PROCESS_EXEC, EventClass.PROCESS_EXIT})
        self.is_exhausted = False
        self._gaps = SequenceGaps()
        self._socket: socket.socket | None = None

    @property
    def counters(self) -> SensorCounters:
        """Return the totals since `open`."""
        return self._watch.counters

    def open(self) -> None:
        """Subscribe to the connector, then list what runs already."""
        self._socket = _subscribe()
        self.classes |= self._watch.open()

    def poll(self, timeout_seconds: float) -> EventBatch:
        """Return the next events; see `Sensor`."""
        connector = self._opened()
        self._watch.synchronise()
        if not self._watch.intake:
            select.select([connector.fileno(), *self._watch.dns.descriptors], [], [], timeout_seconds)
        while len(self._watch.intake) < BATCH_EVENTS and self._receive(connector):
            pass
        self._watch.report_queries(self._watch.dns.receive())
        self._watch.report_logins()
        self.counters.lost[EventClass.DNS_QUERY] = self._watch.dns.lost
        self.counters.lost[EventClass.LOGIN] = self._watch.logins.overruns
        return self._watch.take()

    def close(self) -> None:
        """Unsubscribe."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._watch.close()

    def _opened(self) -> socket.socket:
        if self._socket is None:
            raise SensorUnavailableError("the process connector is not open", remedy="Call open() first.")
        return self._socket

    def _receive(self, connector: socket.socket) -> bool:
        try:
            datagram = connector.recv(_DATAGRAM_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            # The buffer overran. How many messages fell out, the gaps in their numbers will tell.
            if error.errno != errno.ENOBUFS:
                raise
            return True
        for message in parse_messages(datagram):
            self.counters.lost[UNCOUNTED] += self._gaps.missed_before(message)
            self._take_in(message)
        return True

    def _take_in(self, message: ProcMessage) -> None:
        first, second, third, fourth = message.numbers
        if message.kind == ProcEventKind.FORK:
            if third == fourth:
                self._watch.processes.forked(fourth, parent_pid=second)
        elif message.kind == ProcEventKind.EXEC:
            self._report(message, self._executed(second), EventClass.PROCESS_EXEC, "exec")
        elif message.kind == ProcEventKind.COMM:
            if first == second:
                self._renamed(second)
        elif message.kind == ProcEventKind.EXIT and first == second:
            self._report(message, self._watch.processes.exited(second), EventClass.PROCESS_EXIT, "exit")

    def _executed(self, pid: int) -> KnownProcess:
        before = self._watch.processes.get(pid)
        facts = read_process(pid)
        if facts is None:
            self.counters.unresolved += 1
            process = KnownProcess(pid)
            if before is not None:
                process = KnownProcess(pid, before.parent_pid, parent_comm=before.parent_comm, uid=before.uid)
        else:
            # Of an orphan /proc names the foster parent; the fork named the one that started it.
            parent_pid = before.parent_pid if before else facts.parent_pid
            parent_comm = before.parent_comm if before else self._watch.processes.find(parent_pid).comm
            process = KnownProcess(
                pid, parent_pid, facts.comm, parent_comm, facts.uid, facts.command_line, facts.image_path
            )
        self._watch.processes.started(process)
        return process

    def _renamed(self, pid: int) -> None:
        process, facts = self._watch.processes.get(pid), read_process(pid)
        if process is not None and facts is not None:
            process.comm = facts.comm

    def _report(self, message: ProcMessage, process: KnownProcess, event_class: EventClass, event_type: str) -> None:
        self._watch.report(process, message.monotonic_ns, event_class, event_type)


def _subscribe(system: str = sys.platform) -> socket.socket:
    """Return a listening socket of the connector.

    Raises
    ------
    SensorUnavailableError
        This is no Linux, the privilege is missing, or the kernel does not answer (as in a container).
    """
    if system != "linux":
        raise SensorUnavailableError("the process connector exists on Linux only", remedy="Choose --sensor psutil.")
    try:
        connector = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_CONNECTOR)
    except OSError as error:
        raise SensorUnavailableError(f"the process connector cannot be opened: {error}", remedy=_REMEDY) from error
    try:
        connector.bind((0, PROC_GROUP))
        _enlarge(connector)
        connector.send(control_message(listen=True))
        _await_acknowledgement(connector)
    except OSError as error:
        connector.close()
        raise SensorUnavailableError(
            f"the process connector refused: {error.strerror or error}", remedy=_REMEDY
        ) from error
    connector.setblocking(False)  # noqa: FBT003 - the socket's own signature
    return connector


def _enlarge(connector: socket.socket) -> None:
    try:
        connector.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        connector.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def _await_acknowledgement(connector: socket.socket) -> None:
    until = time.monotonic() + _ACK_SECONDS
    while (left := until - time.monotonic()) > 0:
        connector.settimeout(left)
        for message in parse_messages(connector.recv(_DATAGRAM_BYTES)):
            if message.kind != ProcEventKind.ACK:
                continue
            if message.numbers[0]:
                raise OSError(message.numbers[0], os.strerror(message.numbers[0]))
            return
    raise TimeoutError(errno.ETIMEDOUT, "no answer; process events reach the first pid namespace only")

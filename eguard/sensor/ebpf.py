"""The eBPF sensor: executions, exits, connections, file openings and name servers' callers from tracepoints."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
import time
from collections import OrderedDict
from typing import Any, Final

from eguard.errors import SensorUnavailableError
from eguard.events import BATCH_EVENTS, UNCOUNTED, EventBatch, EventClass
from eguard.sensor.counters import SensorCounters
from eguard.sensor.describe import describe_event
from eguard.sensor.dns_message import DnsPacket
from eguard.sensor.dns_tap import DnsTap, owner_of
from eguard.sensor.ebpf_program import load_program
from eguard.sensor.ebpf_records import (
    AT_FDCWD,
    OWN_MAIN,
    PARENT_MAIN,
    RecordHeader,
    RecordKind,
    parse_exec,
    parse_file,
    parse_flow,
    parse_header,
    parse_sender,
)
from eguard.sensor.intake import EventIntake
from eguard.sensor.login_records import LoginRecords
from eguard.sensor.process_table import KnownProcess, ProcessTable
from eguard.sensor.procfs import list_processes

#: What a record of each kind counts as when it is lost.
_LOST_AS: Final = {
    RecordKind.EXEC: EventClass.PROCESS_EXEC,
    RecordKind.EXIT: EventClass.PROCESS_EXIT,
    RecordKind.FILE_OPEN: EventClass.FILE_OPEN,
    RecordKind.CONNECT: EventClass.NETWORK_CONNECT,
    RecordKind.DNS_SENDER: UNCOUNTED,
    RecordKind.CLOSED: UNCOUNTED,
}
#: O_WRONLY, O_RDWR, O_CREAT and O_TRUNC; the openings without any of them are of programs.
_WRITE_FLAGS: Final = 0x243
_COUNT_SECONDS: Final = 1.0
_ROUND_SECONDS: Final = 0.02
_SENDERS: Final = 256
_SENDER_SECONDS: Final = 5.0


class EbpfSensor:
    """Probes behind the sensor protocol.

    Parameters
    ----------
    host_id : str, optional
        Name of this endpoint; the machine's own by default.
    """

    name = "ebpf"

    def __init__(self, host_id: str = "") -> None:
        self.host_id = host_id or socket.gethostname()
        self.classes = frozenset(
            {EventClass.PROCESS_EXEC, EventClass.PROCESS_EXIT, EventClass.FILE_OPEN, EventClass.NETWORK_CONNECT}
        )
        self.is_exhausted = False
        self._intake = EventIntake()
        self._table = ProcessTable()
        self._program: Any = None
        self._raw: list[bytes] = []
        self._tap = DnsTap(owner=self._sender_of)
        self._logins = LoginRecords()
        self._senders: OrderedDict[tuple[int, str], float] = OrderedDict()
        self._unix_minus_monotonic_ns = 0
        self._unreadable = 0
        self._next_count = 0.0
        self._next_round = 0.0

    @property
    def counters(self) -> SensorCounters:
        """Return the totals since `open`."""
        return self._intake.counters

    def open(self) -> None:
        """Attach the probes, then list what runs already."""
        self._program = load_program()
        self._program[b"records"].open_ring_buffer(self._keep)
        if self._tap.open():
            self.classes |= {EventClass.DNS_QUERY}
        if self._logins.open():
            self.classes |= {EventClass.LOGIN}
        self._table.scan(list_processes())

    def poll(self, timeout_seconds: float) -> EventBatch:
        """Return the next events; see `Sensor`."""
        if self._program is None:
            raise SensorUnavailableError("the probes are not attached", remedy="Call open() first.")
        self._unix_minus_monotonic_ns = time.time_ns() - time.monotonic_ns()
        if len(self._intake) < BATCH_EVENTS:
            waiting = bool(self._intake)
            # Handing over a batch costs more than an event: what comes within this time travels together.
            time.sleep(min(max(self._next_round - time.monotonic(), 0.0), timeout_seconds))
            self._next_round = time.monotonic() + _ROUND_SECONDS
            self._program.ring_buffer_poll(0 if waiting else max(int(timeout_seconds * 1000), 0))
            # Queries are read before the last records, so that whoever sent one has been heard of by then.
            queries = self._tap.receive()
            if queries:
                self._program.ring_buffer_consume()
            raw, self._raw = self._raw, []
            for record in raw:
                self._take_in(record)
            for query in self._tap.ascribe(queries):
                self._intake.add(query.to_event(self._table.find(query.pid), self.host_id, self.name))
            for login in self._logins.read():
                self._intake.add(login.to_event(self.host_id, self.name))
            if time.monotonic() >= self._next_count:
                self._count_losses()
        return self._intake.take()

    def close(self) -> None:
        """Detach the probes."""
        if self._program is not None:
            self._count_losses()
            self._program.cleanup()
            self._program = None
        self._tap.close()

    def _keep(self, _context: Any, data: int, size: int) -> int:
        self._raw.append(ctypes.string_at(data, size))
        # A negative answer ends this round, so that a storm cannot keep it going for ever; the rest waits in the ring.
        return -1 if len(self._raw) >= BATCH_EVENTS else 0

    def _count_losses(self) -> None:
        self._next_count = time.monotonic() + _COUNT_SECONDS
        lost = self._program[b"lost"]
        totals = self.counters.lost
        totals[:] = 0
        for kind, event_class in _LOST_AS.items():
            totals[event_class] += lost.sum(ctypes.c_int(kind)).value
        totals[EventClass.DNS_QUERY] += self._tap.lost
        totals[UNCOUNTED] += self._unreadable

    def _take_in(self, raw: bytes) -> None:
        try:
            header = parse_header(raw)
        except struct.error:
            self._unreadable += 1
            return
        if header.kind == RecordKind.EXEC:
            process = self._executed(header, raw)
            self._report(header, process, EventClass.PROCESS_EXEC, "exec")
        elif header.kind == RecordKind.EXIT:
            process = self._process(header)
            self._table.exited(header.pid)
            self._report(header, process, EventClass.PROCESS_EXIT, "exit")
        elif header.kind == RecordKind.FILE_OPEN:
            self._opened(header, raw)
        elif header.kind == RecordKind.DNS_SENDER:
            self._process(header)
            self._note_sender(header.pid, parse_sender(raw))
        else:
            self._connected(header, raw)

    def _executed(self, header: RecordHeader, raw: bytes) -> KnownProcess:
        record = parse_exec(raw)
        process = KnownProcess(
            header.pid,
            comm=header.comm,
            uid=header.uid,
            command_line=record.command_line or record.path,
            image_path=record.path,
        )
        self._place(process, header)
        self._table.started(process)
        return process

    def _process(self, header: RecordHeader) -> KnownProcess:
        """Return the process of a record, from the table or, where it only forked, from the record itself."""
        known = self._table.get(header.pid)
        if known is None or (header.parent_pid and known.parent_pid != header.parent_pid):
            known = KnownProcess(header.pid, comm=header.comm, uid=header.uid)
            self._place(known, header)
            self._table.started(known)
        elif header.main_threads & OWN_MAIN and header.kind != RecordKind.CLOSED:
            # A process may rename itself at any time; the names of its threads are not its own.
            known.comm = header.comm
        return known

    def _place(self, process: KnownProcess, header: RecordHeader) -> None:
        """Fill in the parent: as the probes saw it, else as /proc has it."""
        if header.parent_pid:
            process.parent_pid = header.parent_pid
            parent = None if header.main_threads & PARENT_MAIN else self._table.get(header.parent_pid)
            process.parent_comm = header.parent_comm if parent is None else parent.comm
            return
        before = self._table.find(header.pid)
        process.parent_pid, process.parent_comm = before.parent_pid, before.parent_comm

    def _opened(self, header: RecordHeader, raw: bytes) -> None:
        record = parse_file(raw)
        process = self._process(header)
        path = _absolute(header.pid, record.folder, record.path)
        is_write = bool(record.flags & _WRITE_FLAGS)
        if is_write or _is_program(path):
            self._report(
                header,
                process,
                EventClass.FILE_OPEN,
                "open_write" if is_write else "open_executable",
                target=path,
            )

    def _connected(self, header: RecordHeader, raw: bytes) -> None:
        flow = parse_flow(raw)
        # The end is told by the kernel on behalf of whoever runs just then; the header is still that of the start.
        process = self._process(header)
        columns: dict[str, Any] = {
            "destination_address": flow.destination_address,
            "destination_port": flow.destination_port,
        }
        if header.kind == RecordKind.CONNECT:
            self._report(header, process, EventClass.NETWORK_CONNECT, "tcp_connect", **columns)
            return
        # One connection is one event of its class; its end carries what was not known before.
        self._report(
            header,
            process,
            UNCOUNTED,
            "tcp_close" if flow.is_established else "tcp_failed",
            sent_bytes=flow.sent_bytes,
            received_bytes=flow.received_bytes,
            duration_seconds=flow.duration_seconds,
            **columns,
        )

    def _note_sender(self, pid: int, address: str) -> None:
        self._senders[pid, address] = time.monotonic()
        self._senders.move_to_end((pid, address))
        if len(self._senders) > _SENDERS:
            self._senders.popitem(last=False)

    def _sender_of(self, packet: DnsPacket) -> int:
        """Return who sent a query: the one process that turned to this server lately, or the socket's holder."""
        since = time.monotonic() - _SENDER_SECONDS
        lately = [
            pid
            for (pid, address), when in reversed(self._senders.items())
            if when >= since and address == packet.destination_address
        ]
        if len(lately) == 1:
            return lately[0]
        return owner_of(packet, lately) or (lately[0] if lately else 0)

    def _report(
        self, header: RecordHeader, process: KnownProcess, event_class: int, event_type: str, **columns: Any
    ) -> None:
        self._intake.add(
            describe_event(
                process,
                time_unix=(header.monotonic_ns + self._unix_minus_monotonic_ns) / 1e9,
                host_id=self.host_id,
                source=self.name,
                event_class=event_class,
                event_type=event_type,
                **columns,
            )
        )


def _absolute(pid: int, folder: int, path: str) -> str:
    """Return the path from the root on, as far as the process is still there to be asked where it stood."""
    if path.startswith("/"):
        return path
    link = f"/proc/{pid}/cwd" if folder == AT_FDCWD else f"/proc/{pid}/fd/{folder}"
    try:
        return f"{os.fsencode(os.readlink(link)).decode('utf-8', 'backslashreplace')}/{path}"  # noqa: PTH115
    except OSError:
        return path


def _is_program(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - asked for every opening
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111)

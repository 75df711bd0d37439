"""The eBPF sensor: processes, connections, file openings, module loads and name servers' callers from tracepoints."""

from __future__ import annotations

import os
import struct
import time
from typing import Any, Final

from eguard.errors import SensorUnavailableError
from eguard.events import BATCH_EVENTS, UNCOUNTED, EventBatch, EventClass
from eguard.sensor.bpf_maps import ProcessorTotals, RingBuffer
from eguard.sensor.counters import SensorCounters
from eguard.sensor.dns_message import DNS_PORT
from eguard.sensor.dns_senders import DnsSenders
from eguard.sensor.ebpf_program import LoadedProgram, load_program
from eguard.sensor.ebpf_records import (
    OWN_MAIN,
    PARENT_MAIN,
    FlowRecord,
    RecordHeader,
    RecordKind,
    parse_contact,
    parse_exec,
    parse_file,
    parse_flow,
    parse_header,
    parse_module,
)
from eguard.sensor.kernel_watch import KernelWatch
from eguard.sensor.listeners import Listeners
from eguard.sensor.opened_paths import absolute_path, is_program
from eguard.sensor.process_table import KnownProcess

#: What a record of each kind counts as when it is lost or thinned out.
_COUNTED_AS: Final = {
    RecordKind.EXEC: EventClass.PROCESS_EXEC,
    RecordKind.EXIT: EventClass.PROCESS_EXIT,
    RecordKind.FILE_OPEN: EventClass.FILE_OPEN,
    RecordKind.CONNECT: EventClass.NETWORK_CONNECT,
    RecordKind.DNS_SENDER: UNCOUNTED,
    RecordKind.CLOSED: UNCOUNTED,
    RecordKind.UDP_CONTACT: EventClass.NETWORK_CONNECT,
    RecordKind.LISTEN: UNCOUNTED,
    RecordKind.UNLISTEN: UNCOUNTED,
    RecordKind.ACCEPT: UNCOUNTED,
    RecordKind.MODULE: EventClass.MODULE_LOAD,
}
_THINNED: Final = (RecordKind.UDP_CONTACT, RecordKind.ACCEPT)
#: O_WRONLY, O_RDWR, O_CREAT and O_TRUNC; the openings without any of them are of programs.
_WRITE_FLAGS: Final = 0x243
_COUNT_SECONDS: Final = 1.0
_ROUND_SECONDS: Final = 0.02
_MODULE_TRACEPOINT: Final = "module:module_load"


class EbpfSensor:
    """Probes behind the sensor protocol.

    Parameters
    ----------
    host_id : str, optional
        Name of this endpoint; the machine's own by default.
    """

    name = "ebpf"

    def __init__(self, host_id: str = "") -> None:
        self._senders = DnsSenders()
        self._watch = KernelWatch(self.name, host_id, dns_owner=self._senders.owner)
        self.host_id = self._watch.host_id
        self.classes = frozenset(
            {EventClass.PROCESS_EXEC, EventClass.PROCESS_EXIT, EventClass.FILE_OPEN, EventClass.NETWORK_CONNECT}
        )
        self.is_exhausted = False
        self._listeners = Listeners()
        self._program: LoadedProgram | None = None
        self._ring: RingBuffer | None = None
        self._raw: list[bytes] = []
        self._unreadable = 0
        self._next_count = 0.0
        self._next_round = 0.0

    @property
    def counters(self) -> SensorCounters:
        """Return the totals since `open`."""
        return self._watch.counters

    def open(self) -> None:
        """Attach the probes, then list what runs and listens already."""
        self._program = load_program()
        self._ring = RingBuffer(self._program.maps["records"], self._keep)
        self.classes = self.classes_of(self._program) | self._watch.open()
        self._listeners.scan()

    def classes_of(self, program: LoadedProgram) -> frozenset[EventClass]:
        """Return what the attached probes report: module loads only where the kernel has a tracepoint for them."""
        return self.classes | ({EventClass.MODULE_LOAD} if _MODULE_TRACEPOINT in program.tracepoints else set())

    def poll(self, timeout_seconds: float) -> EventBatch:
        """Return the next events; see `Sensor`."""
        if self._ring is None:
            raise SensorUnavailableError("the probes are not attached", remedy="Call open() first.")
        self._watch.synchronise()
        if len(self._watch.intake) < BATCH_EVENTS:
            waiting = bool(self._watch.intake)
            # Handing over a batch costs more than an event: what comes within this time travels together.
            time.sleep(min(max(self._next_round - time.monotonic(), 0.0), timeout_seconds))
            self._next_round = time.monotonic() + _ROUND_SECONDS
            self._ring.poll(0 if waiting else max(int(timeout_seconds * 1000), 0))
            # Queries are read before the last records, so that whoever sent one has been heard of by then.
            queries = self._watch.dns.receive()
            if queries:
                self._ring.consume()
            self._take_in_all()
            self._watch.report_queries(queries)
            self._watch.report_logins()
            if time.monotonic() >= self._next_count:
                self._count_losses()
        return self._watch.take()

    def close(self) -> None:
        """Detach the probes."""
        if self._ring is not None:
            self._count_losses()
            self._ring.close()
            self._ring = None
        if self._program is not None:
            self._program.close()
            self._program = None
        self._watch.close()

    def _keep(self, raw: bytes) -> bool:
        self._raw.append(raw)
        # A storm must not keep this round going for ever; the rest waits in the ring.
        return len(self._raw) < BATCH_EVENTS

    def _count_losses(self) -> None:
        if self._program is None:
            return
        self._next_count = time.monotonic() + _COUNT_SECONDS
        lost, thinned = (ProcessorTotals(self._program.maps[name]) for name in ("lost", "thinned"))
        counters = self.counters
        counters.lost[:] = 0
        for kind, event_class in _COUNTED_AS.items():
            counters.lost[event_class] += lost.total(kind)
        counters.lost[EventClass.DNS_QUERY] += self._watch.dns.lost
        counters.lost[EventClass.LOGIN] += self._watch.logins.overruns
        counters.lost[UNCOUNTED] += self._unreadable
        for kind in _THINNED:
            counters.sampled[_COUNTED_AS[kind]] = thinned.total(kind)

    def _take_in_all(self) -> None:
        raw, self._raw = self._raw, []
        for record in raw:
            try:
                self._take_in(parse_header(record), record)
            except struct.error:
                self._unreadable += 1

    def _take_in(self, header: RecordHeader, raw: bytes) -> None:
        if header.kind == RecordKind.EXEC:
            self._report(header, self._executed(header, raw), EventClass.PROCESS_EXEC, "exec")
        elif header.kind == RecordKind.EXIT:
            process = self._process(header)
            self._watch.processes.exited(header.pid)
            self._report(header, process, EventClass.PROCESS_EXIT, "exit")
        elif header.kind == RecordKind.FILE_OPEN:
            self._opened(header, raw)
        elif header.kind == RecordKind.DNS_SENDER:
            self._process(header)
            self._senders.note(header.pid, parse_contact(raw)[0])
        elif header.kind == RecordKind.UDP_CONTACT:
            self._contacted(header, raw)
        elif header.kind == RecordKind.MODULE:
            # Rules call a kernel module a driver.
            name = parse_module(raw)
            self._report(header, self._process(header), EventClass.MODULE_LOAD, "driver_load", target=name)
        elif header.kind in (RecordKind.LISTEN, RecordKind.UNLISTEN):
            self._listened(header, parse_flow(raw))
        elif header.kind == RecordKind.ACCEPT:
            self._accepted(header, parse_flow(raw))
        elif header.kind in (RecordKind.CONNECT, RecordKind.CLOSED):
            self._connected(header, parse_flow(raw))
        else:
            self._unreadable += 1

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
        self._watch.processes.started(process)
        return process

    def _process(self, header: RecordHeader) -> KnownProcess:
        """Return the process of a record, from the table or, where it only forked, from the record itself."""
        known = self._watch.processes.get(header.pid)
        if known is None or (header.parent_pid and known.parent_pid != header.parent_pid):
            known = KnownProcess(header.pid, comm=header.comm, uid=header.uid)
            self._place(known, header)
            self._watch.processes.started(known)
        elif header.main_threads & OWN_MAIN and header.kind != RecordKind.CLOSED:
            # A process may rename itself at any time; the names of its threads are not its own.
            known.comm = header.comm
        return known

    def _place(self, process: KnownProcess, header: RecordHeader) -> None:
        """Fill in the parent: as the probes saw it, else as /proc has it."""
        processes = self._watch.processes
        if header.parent_pid:
            process.parent_pid = header.parent_pid
            parent = None if header.main_threads & PARENT_MAIN else processes.get(header.parent_pid)
            process.parent_comm = header.parent_comm if parent is None else parent.comm
            return
        before = processes.find(header.pid)
        process.parent_pid, process.parent_comm = before.parent_pid, before.parent_comm

    def _opened(self, header: RecordHeader, raw: bytes) -> None:
        record = parse_file(raw)
        process = self._process(header)
        path = absolute_path(header.pid, record.folder, record.path)
        is_write = bool(record.flags & _WRITE_FLAGS)
        if is_write or is_program(path):
            kind = "open_write" if is_write else "open_executable"
            self._report(header, process, EventClass.FILE_OPEN, kind, target=path)

    def _connected(self, header: RecordHeader, flow: FlowRecord) -> None:
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

    def _contacted(self, header: RecordHeader, raw: bytes) -> None:
        process = self._process(header)
        address, port = parse_contact(raw)
        if port == DNS_PORT and EventClass.DNS_QUERY in self.classes:
            # Of all that goes to that port the tap tells: as a query, or as a datagram that is none.
            return
        self._report(
            header,
            process,
            EventClass.NETWORK_CONNECT,
            "udp_connect",
            destination_address=address,
            destination_port=port,
        )

    def _listened(self, header: RecordHeader, flow: FlowRecord) -> None:
        process = self._process(header)
        if header.kind == RecordKind.UNLISTEN:
            self._listeners.ended(flow.source_port, flow.source_address, header.pid)
            return
        self._listeners.started(flow.source_port, flow.source_address, header.pid)
        self._report(header, process, UNCOUNTED, "tcp_listen", target=f"{flow.source_address} {flow.source_port}")

    def _accepted(self, header: RecordHeader, flow: FlowRecord) -> None:
        pid = self._listeners.find(flow.source_port, flow.source_address)
        if pid == os.getpid():
            return
        self._report(
            header,
            self._watch.processes.find(pid),
            UNCOUNTED,
            "tcp_accept",
            destination_address=flow.destination_address,
            destination_port=flow.destination_port,
            target=f"{flow.source_address} {flow.source_port}",
            fields={
                "Initiated": "false",
                "SourceIp": flow.destination_address,
                "SourcePort": str(flow.destination_port),
                "DestinationIp": flow.source_address,
                "DestinationPort": str(flow.source_port),
            },
        )

    def _report(
        self, header: RecordHeader, process: KnownProcess, event_class: int, event_type: str, **columns: Any
    ) -> None:
        self._watch.report(process, header.monotonic_ns, event_class, event_type, **columns)

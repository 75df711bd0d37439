"""The server over TLS: profile rows a second and what one costs, the slowest answers, the kill switch, waiting agents.

The load generator runs beside the server on the same cores, as the targets say. It speaks HTTP over its own sockets, so
that a client library's work is not measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks._server_threads import ThreadSeconds, spent_since, thread_seconds
from eguard.clock import SystemClock
from eguard.fleet.store import FleetStore
from eguard.server.assembly import assemble, prepare_folder
from eguard.server.pki.files import pki_folder
from eguard.server.pki.request import make_key_and_request
from eguard.server.principal import Principal, Role
from eguard.settings import ServerSettings
from eguard.wire.baseline import BaselineBatch, BaselineRow, ContinuousMoments, Moments
from eguard.wire.control import INCARNATION_HEADER, Heartbeat

BATCH_ROWS = 128
#: Agents that upload at once: fewer leave the server waiting for them, more make each of them wait longer.
UPLOADERS = 32
UPLOAD_SECONDS = 10.0
PEER_SECONDS = 5.0
HEARTBEAT_SECONDS = 0.05
POLLERS = 1000
TARGET_ROWS = 30_000
TARGET_P99_MILLISECONDS = 250
TARGET_SWITCH_SECONDS = 1
TARGET_DELIVERY_SECONDS = 5
SEED = 20260301
KEYS_AN_AGENT = 512
CONSOLE = Principal("benchmark", Role.ADMIN)


@dataclass
class Fleet:
    """A server as a process of its own, and what its clients need."""

    folder: Path
    pid: int = 0
    agent_port: int = 0
    admin_port: int = 0
    token: str = ""

    def context(self, agent_id: str = "") -> ssl.SSLContext:
        """Return a client's TLS, with the certificate of an agent or with none."""
        context = ssl.create_default_context(cafile=str(self.folder / "server" / "pki" / "ca.pem"))
        if agent_id:
            context.load_cert_chain(self.folder / f"{agent_id}.pem", self.folder / f"{agent_id}.key")
        return context


@contextmanager
def running_peer(fleet: Fleet) -> Iterator[Fleet]:
    """Run the plain server with the same certificates, and end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    peer = subprocess.Popen([sys.executable, "-m", "benchmarks._plain_server", str(fleet.folder), str(port)])
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield replace(fleet, agent_port=port)
    finally:
        peer.kill()
        peer.wait()


@contextmanager
def running_fleet(agents: list[str]) -> Iterator[Fleet]:
    """Make certificates for `agents`, run a server, and end it."""
    with tempfile.TemporaryDirectory() as name:
        fleet = Fleet(Path(name))
        settings = ServerSettings(server_state_path=fleet.folder / "server")
        prepare_folder(settings)
        folder = pki_folder(settings)
        folder.create(["127.0.0.1"], time.time())
        with FleetStore.create(settings.fleet_url) as store:
            context = assemble(settings, store, SystemClock())
            for agent_id in agents:
                key, request = make_key_and_request(agent_id)
                issued = context.enrolment.issue(CONSOLE, agent_id, request)
                (fleet.folder / f"{agent_id}.pem").write_text(issued.pem)
                (fleet.folder / f"{agent_id}.key").write_bytes(key)
            fleet.token = context.access.tokens.create(CONSOLE, "benchmark", Role.ADMIN).secret
        environment = os.environ | {
            "EGUARD_SERVER_STATE_PATH": str(settings.server_state_path),
            "EGUARD_AGENT_LISTEN": "127.0.0.1:0",
            "EGUARD_ADMIN_LISTEN": "127.0.0.1:0",
        }
        log = (fleet.folder / "server.log").open("w+")
        server = subprocess.Popen(
            [str(Path(sys.executable).with_name("eguard")), "server", "run"], env=environment, stderr=log
        )
        try:
            fleet.pid = server.pid
            _await_ports(fleet, server)
            yield fleet
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)
            log.close()


def _await_ports(fleet: Fleet, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and server.poll() is None:
        for line in (fleet.folder / "server.log").read_text().splitlines():
            if "server is listening" in line:
                said = json.loads(line)
                fleet.agent_port, fleet.admin_port = said["agent_port"], said["admin_port"]
                return
        time.sleep(0.05)
    raise RuntimeError((fleet.folder / "server.log").read_text()[-2000:])


def upload_body(agent_id: str, sequence: int, rng: random.Random) -> bytes:
    """Return a batch whose every row differs from what is stored: identical bytes would be written for nothing."""
    rows = []
    for index in range(BATCH_ROWS):
        share, number = rng.random(), (sequence * BATCH_ROWS + index) % KEYS_AN_AGENT
        moments = Moments(count=90, mean=1.5 + share, m2=3.0 + share)
        rows.append(
            BaselineRow(
                process_key=f"program-{number}:parent-{number % 17}",
                event_distribution={"process_exec": share, "file_open": (1 - share) / 2, "dns_query": (1 - share) / 2},
                sample_count=100 + sequence,
                entropy_threshold=3.0,
                learned_at_unix=1_772_000_000.0 + sequence,
                seq=1 + sequence,
                continuous=ContinuousMoments(interarrival=moments, payload=moments),
            )
        )
    return msgspec.json.encode(BaselineBatch(agent_id=agent_id, batch_id=f"b{sequence}", baselines=rows))


def request_bytes(method: str, path: str, body: bytes = b"", token: str = "") -> bytes:
    """Return a whole request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: server\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n{INCARNATION_HEADER}: first\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    return head.encode() + b"\r\n" + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return status and body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0]) if b"content-length: " in head else 0
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def upload(fleet: Fleet, agents: list[str], seconds: float) -> tuple[float, list[float]]:
    """Upload for a while from every agent; return rows a second and each answer's seconds."""
    rng = random.Random(SEED)
    batches = int(2.5 * TARGET_ROWS / BATCH_ROWS / len(agents) * seconds)
    bodies = {agent: [upload_body(agent, number, rng) for number in range(batches)] for agent in agents}
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def one(agent: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.agent_port, ssl=fleet.context(agent))
        for body in bodies[agent]:
            if time.perf_counter() >= until:
                break
            started = time.perf_counter()
            writer.write(request_bytes("POST", "/api/v1/endpoint/baseline/batch", body))
            status, answer = await read_answer(reader)
            if status != 200 or b'"accepted":128' not in answer:
                raise RuntimeError(f"{status}: {answer[:300]!r}")
            latencies.append(time.perf_counter() - started)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*map(one, agents))
    return len(latencies) * BATCH_ROWS / (time.perf_counter() - started), latencies


async def upload_and_beat(fleet: Fleet, agents: list[str], seconds: float) -> tuple[float, list[float], list[float]]:
    """Upload for a while, and have one more agent send heartbeats meanwhile; return their answers' seconds as well."""
    beats: list[float] = []
    *uploaders, beating = agents
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.agent_port, ssl=fleet.context(beating))
    body = msgspec.json.encode(
        Heartbeat(agent_id=beating, incarnation="first", agent_version="1", baseline_status="active")
    )

    async def beat() -> None:
        while True:
            started = time.perf_counter()
            writer.write(request_bytes("POST", "/api/v1/endpoint/heartbeat", body))
            status, answer = await read_answer(reader)
            if status != 200:
                raise RuntimeError(f"{status}: {answer[:300]!r}")
            beats.append(time.perf_counter() - started)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    beating_on = asyncio.create_task(beat())
    rows, latencies = await upload(fleet, uploaders, seconds)
    beating_on.cancel()
    await asyncio.gather(beating_on, return_exceptions=True)
    writer.close()
    await writer.wait_closed()
    return rows, latencies, beats


async def switch_off(fleet: Fleet, agents: list[str]) -> tuple[float, float, int]:
    """Have agents wait for a policy and switch uploads off.

    Returns
    -------
    refused_seconds, delivered_seconds, agents
        Seconds from the answer to the command until an upload was refused, and until the last agent had the policy.
    """
    names = [agents[number % len(agents)] for number in range(POLLERS)]
    contexts = {agent: fleet.context(agent) for agent in agents}
    arrived: list[float] = []
    gate = asyncio.Semaphore(32)
    revision = await _revision(fleet, agents[0])

    async def poll(agent: str, is_waiting: asyncio.Event) -> None:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", fleet.agent_port, ssl=contexts[agent])
        writer.write(request_bytes("GET", f"/api/v1/endpoint/policy?revision={revision}&wait=55"))
        await writer.drain()
        is_waiting.set()
        status, _ = await read_answer(reader)
        if status == 200:
            arrived.append(time.perf_counter())
        writer.close()

    waits = [asyncio.Event() for _ in names]
    polling = [asyncio.create_task(poll(name, wait)) for name, wait in zip(names, waits, strict=True)]
    await asyncio.gather(*(wait.wait() for wait in waits))
    await asyncio.sleep(2.0)
    policy = {"baseline_upload_enabled": False, "fleet_seed_enabled": False}
    posted = json.dumps({"policy_id": "default", "policy_version": "off", "policy_json": policy}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.admin_port, ssl=fleet.context())
    writer.write(request_bytes("POST", "/api/v1/endpoint/policy", posted, fleet.token))
    status, answer = await read_answer(reader)
    if status not in {200, 201}:
        raise RuntimeError(answer.decode())
    committed = time.perf_counter()
    refused = await _until_refused(fleet, agents[0])
    await asyncio.gather(*polling)
    return refused - committed, max(arrived) - committed, len(arrived)


async def _revision(fleet: Fleet, agent: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.agent_port, ssl=fleet.context(agent))
    writer.write(request_bytes("GET", "/api/v1/endpoint/policy"))
    _, answer = await read_answer(reader)
    return int(json.loads(json.loads(answer)["payload"])["revision"])


async def _until_refused(fleet: Fleet, agent: str) -> float:
    rng, sequence = random.Random(SEED), 1_000_000
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.agent_port, ssl=fleet.context(agent))
    while True:
        writer.write(request_bytes("POST", "/api/v1/endpoint/baseline/batch", upload_body(agent, sequence, rng)))
        status, _ = await read_answer(reader)
        if status == 403:
            return time.perf_counter()
        sequence += 1
        await asyncio.sleep(0.01)


def run() -> list[dict[str, Any]]:
    """Measure."""
    agents = [f"agent-{number}" for number in range(UPLOADERS + 1)]
    with running_fleet(agents) as fleet:
        before = thread_seconds(fleet.pid)
        rows, latencies, beats = asyncio.run(upload_and_beat(fleet, agents, UPLOAD_SECONDS))
        spent = spent_since(fleet.pid, before)
        with running_peer(fleet) as peer:
            plain, _ = asyncio.run(upload(peer, agents[:UPLOADERS], PEER_SECONDS))
        refused, delivered, reached = asyncio.run(switch_off(fleet, agents))
    p99, beats_p99 = (1000.0 * float(np.percentile(measured, 99)) for measured in (latencies, beats))
    absolute = {"peer": None, "ratio": None, "target_ratio": None}
    return [
        {
            "name": "profile rows into SQLite over TLS",
            "ours": rows,
            "unit": "rows/s",
            "target": TARGET_ROWS,
            **absolute,
        },
        {
            "name": "the same, beside FastAPI, pydantic and SQLAlchemy as in their tutorials",
            "ours": rows,
            "peer": plain,
            "unit": "rows/s",
            "ratio": rows / plain,
            "target_ratio": None,
        },
        {
            "name": "the slowest of a hundred uploads",
            "ours": p99,
            "unit": "ms, p99",
            "target": TARGET_P99_MILLISECONDS,
            "lower_is_better": True,
            **absolute,
        },
        {"name": "the slowest of a hundred heartbeats meanwhile", "ours": beats_p99, "unit": "ms, p99", **absolute},
        *_cpu_rows(spent, len(latencies) * BATCH_ROWS),
        {
            "name": "kill switch: uploads refused",
            "ours": refused,
            "unit": "s",
            "target": TARGET_SWITCH_SECONDS,
            "lower_is_better": True,
            **absolute,
        },
        {
            "name": f"kill switch: {reached} waiting agents told",
            "ours": delivered,
            "unit": "s",
            "target": TARGET_DELIVERY_SECONDS,
            "lower_is_better": True,
            **absolute,
        },
    ]


def _cpu_rows(spent: ThreadSeconds, rows: int) -> list[dict[str, Any]]:
    """Return what a profile row costs the server, whatever else the machine does."""
    absolute = {"unit": "us a row", "peer": None, "ratio": None, "target_ratio": None}
    parts = {
        "CPU of the event loop: TLS, HTTP, checking": spent.event_loop,
        "CPU of the writer, its SQLite without Python's lock": spent.busiest_other,
        "CPU of the whole server": spent.total,
    }
    return [{"name": name, "ours": 1e6 * seconds / rows, **absolute} for name, seconds in parts.items()]

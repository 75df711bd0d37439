"""Hundreds of agents that connect at once and then wait: what each costs, and whether anybody notices them."""

import gc
import ssl
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from server_access import beat, heartbeat, tls_context
from server_place import server_place
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from eguard.server.peer_protocol import PeerProtocol
from eguard.server.tls_connection import TlsConnection
from eguard.server.withheld import WithheldPolicy

AGENTS = 200
#: The event loop's own TLS takes 256 KiB for its buffer alone; measured here are about 30.
MAX_BYTES_EACH = 64 * 1024
HERD_SECONDS = 60.0
#: Connects as often as it is told to, all handshakes at once, has the policy withheld on each, says when all wait.
CLIENTS = """
import asyncio, ssl, sys, time
port, count, authority, certificate, key = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
asyncio.sslproto.SSLProtocol.max_size = 4096
context = ssl.create_default_context(cafile=authority)
context.load_cert_chain(certificate, key)
ask = b"GET /api/v1/endpoint/policy?revision=99999&wait=55 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"

async def wait():
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, ssl_handshake_timeout=60)
    writer.write(ask)
    return writer

async def main():
    writers = await asyncio.gather(*(wait() for _ in range(count)))
    print("connected", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for writer in writers:
        writer.transport.abort()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("server"), request_seconds=60.0) as running:
        yield running


@pytest.fixture(scope="module")
def certificate(place):
    files = place.issue("a1")
    beat(place, files, "a1")
    return files


@contextmanager
def clients(place, certificate, count, left=0):
    """Run a process that connects `count` times."""
    told = [str(each) for each in (place.running.agent_port, count, place.authority_file, *certificate)]
    command = [sys.executable, "-c", CLIENTS, *told]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.stdin.write("\n")
            process.stdin.flush()
            process.wait(30)
    nobody_else_waits(place, left)


def nobody_else_waits(place, left):
    """Whoever went away is forgotten at once, and not when its time is over."""
    until = time.monotonic() + 20.0
    while place.context.policy_board.waiting > left:
        assert time.monotonic() < until, place.context.policy_board.waiting
        time.sleep(0.02)


def everybody_waits(place, count):
    until = time.monotonic() + HERD_SECONDS
    while place.context.policy_board.waiting < count:
        assert time.monotonic() < until, place.context.policy_board.waiting
        time.sleep(0.02)


def resident_bytes():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads what Linux tells of memory")
def test_an_agent_that_waits_costs_a_fraction_of_what_the_event_loops_own_tls_takes(place, certificate):
    with clients(place, certificate, AGENTS):  # whatever is made once is made now, and what was free is in use again
        everybody_waits(place, AGENTS)
        before = resident_bytes()
        with clients(place, certificate, AGENTS, left=AGENTS):
            everybody_waits(place, 2 * AGENTS)
            each = (resident_bytes() - before) / AGENTS
    sys.stdout.write(f"{each / 1024:.1f} KiB for each of {AGENTS} that wait\n")  # figures: pytest -rP
    assert each < MAX_BYTES_EACH


def test_a_herd_of_handshakes_holds_up_no_heartbeat_and_all_of_it_gets_in(place, certificate):
    agent = HTTPSConnection("127.0.0.1", place.running.agent_port, context=tls_context(place, certificate))
    times = []
    agent.connect()
    with clients(place, certificate, AGENTS):
        until = time.monotonic() + HERD_SECONDS
        while place.context.policy_board.waiting < AGENTS:
            assert time.monotonic() < until
            began = time.monotonic()
            agent.request("POST", "/api/v1/endpoint/heartbeat", heartbeat("a1"))
            answer = agent.getresponse()
            answer.read()
            times.append(time.monotonic() - began)
            assert answer.status == 200
    agent.close()
    assert sorted(times)[len(times) // 2] < 1.0, times


PARTS = (ssl.SSLSocket, TlsConnection, PeerProtocol, RequestResponseCycle, WithheldPolicy)


@contextmanager
def no_collector():
    """Free only what nothing refers to any more."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def parts_alive():
    """Return how many parts of connections there are, whether anybody uses them or not."""
    kinds = Counter(type(each) for each in gc.get_objects())
    return {part.__name__: sum(kinds[kind] for kind in kinds if issubclass(kind, part)) for part in PARTS}


def everything_is_free(before):
    """Wait until no more is alive than before: the last of a connection goes a moment after its agent."""
    until = time.monotonic() + 10.0
    while parts_alive() != before and time.monotonic() < until:
        time.sleep(0.1)
    assert parts_alive() == before


def test_agents_that_went_away_leave_nothing_to_the_collector(place, certificate):
    """Ten thousand that reconnect would take their memory twice until it comes by; it does not see OpenSSL's."""
    with clients(place, certificate, 3):
        everybody_waits(place, 3)
    with no_collector():
        before = parts_alive()
        with clients(place, certificate, 20):
            everybody_waits(place, 20)
        everything_is_free(before)


def test_answers_that_were_withheld_leave_nothing_to_the_collector(place, certificate):
    connection = HTTPSConnection("127.0.0.1", place.running.agent_port, context=tls_context(place, certificate))

    def ask():
        connection.request("GET", "/api/v1/endpoint/policy?revision=99999&wait=0.05")
        answer = connection.getresponse()
        answer.read()
        return answer.status

    with closing(connection), no_collector():
        assert ask() == 204
        before = parts_alive()
        assert {ask() for _ in range(10)} == {204}
        everything_is_free(before)

"""Connections that are slow, broken or hostile, against a running server: nobody else notices them."""

import contextlib
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection

import pytest
from server_access import beat, connected, heartbeat, read_answers, split_answer, tls_context
from server_place import server_place

DEADLINE_SECONDS = 4.0
DRIPPERS = 200
UPLOADERS = 16
BEAT = "/api/v1/endpoint/heartbeat"
BATCH = "/api/v1/endpoint/baseline/batch"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("server"), request_seconds=DEADLINE_SECONDS) as running:
        yield running


@pytest.fixture(scope="module")
def certificate(place):
    files = place.issue("a1")
    beat(place, files, "a1")
    return files


@pytest.fixture
def agent(place, certificate):
    connection = HTTPSConnection("127.0.0.1", place.running.agent_port, context=tls_context(place, certificate))
    with contextlib.closing(connection):
        yield connection


def seconds_of(connection, method, path, body=None):
    """Return how long one answer took, which has to be a good one."""
    began = time.monotonic()
    connection.request(method, path, body)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    return time.monotonic() - began


def head(path, *fields, host="x"):
    return "\r\n".join([f"POST {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


def test_answers_on_a_kept_connection_do_not_wait_for_acknowledgements(agent):
    """With Nagle's algorithm on, each took the 40 ms after which the client acknowledges the first segment."""
    fastest = min(seconds_of(agent, "GET", "/healthz") for _ in range(30))
    assert fastest < 0.02


def test_two_hundred_connections_that_drip_do_not_hold_up_a_heartbeat(place, certificate, agent):
    context, stop = tls_context(place, certificate), threading.Event()
    dripping, ended = [], []
    request = head(BEAT, "Content-Length: 1000")

    def drip(number):
        plain = socket.create_connection(("127.0.0.1", place.running.agent_port), 30)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            connection.settimeout(0.3)
            dripping.append(number)
            sent = 0
            while not stop.is_set():
                try:
                    connection.sendall(request[sent : sent + 1] if number % 2 else b"x" if sent else request)
                    sent += 1
                    if connection.recv(1000) or True:
                        ended.append(number)
                        return
                except TimeoutError:
                    continue
                except OSError:
                    ended.append(number)
                    return

    with ThreadPoolExecutor(DRIPPERS) as pool:
        for number in range(DRIPPERS):
            pool.submit(drip, number)
        try:
            until = time.monotonic() + 10 * DEADLINE_SECONDS
            while len(dripping) < DRIPPERS:
                assert time.monotonic() < until
                time.sleep(0.05)
            times = [seconds_of(agent, "POST", BEAT, heartbeat("a1")) for _ in range(5)]
            # Nor does somebody who only connects now.
            with contextlib.closing(
                HTTPSConnection("127.0.0.1", place.running.agent_port, context=context, timeout=10)
            ) as late:
                times.append(seconds_of(late, "POST", BEAT, heartbeat("a1")))
            while len(ended) < DRIPPERS:
                assert time.monotonic() < until, "each is ended at the deadline"
                time.sleep(0.05)
        finally:
            stop.set()
    assert sorted(times)[len(times) // 2] < 1.0, times


def test_uploads_that_queue_for_the_writer_hold_up_neither_policies_nor_the_kill_switch(place, certificate, agent):
    admin = HTTPSConnection("127.0.0.1", place.running.admin_port, context=tls_context(place))
    bearer = {"Authorization": f"Bearer {place.token('admin')}"}
    stop, busiest = threading.Event(), []

    def upload(number):
        connection = HTTPSConnection(
            "127.0.0.1", place.running.agent_port, context=tls_context(place, certificate), timeout=60
        )
        with contextlib.closing(connection):
            seq = 0
            while not stop.is_set():
                seq += 1
                connection.request("POST", BATCH, large_upload(number, seq))
                connection.getresponse().read()

    with ThreadPoolExecutor(UPLOADERS) as pool, contextlib.closing(admin):
        uploading = [pool.submit(upload, number) for number in range(UPLOADERS)]
        try:
            until = time.monotonic() + 30
            while not busiest or max(busiest) < UPLOADERS // 2:
                assert time.monotonic() < until
                busiest.append(place.context.ingest.waiting)
                time.sleep(0.005)
            fetches = [seconds_of(agent, "GET", "/api/v1/endpoint/policy") for _ in range(7)]
            body = {"policy_id": "default", "policy_version": "off", "policy_json": {"baseline_upload_enabled": False}}
            began = time.monotonic()
            admin.request("POST", "/api/v1/endpoint/policy", json.dumps(body), bearer)
            assert admin.getresponse().status == 201
            switched = time.monotonic() - began
        finally:
            stop.set()
        assert all(each.result() is None for each in uploading)
    body = {"policy_id": "default", "policy_version": "on", "policy_json": {}}
    with contextlib.closing(
        HTTPSConnection("127.0.0.1", place.running.admin_port, context=tls_context(place))
    ) as again:
        again.request("POST", "/api/v1/endpoint/policy", json.dumps(body), bearer)
        assert again.getresponse().status == 201
    assert sorted(fetches)[len(fetches) // 2] < 1.0, fetches
    assert switched < 2.0


def large_upload(number, seq, rows=400):
    row = {
        "event_distribution": {"process_exec": 0.5, "file_open": 0.5},
        "sample_count": seq,
        "entropy_threshold": 3.0,
        "learned_at_unix": 0.0,
        "seq": seq,
    }
    baselines = [row | {"process_key": f"p{number}-{index}:init"} for index in range(rows)]
    return json.dumps({"agent_id": "a1", "batch_id": "b", "baselines": baselines}).encode()


SMUGGLED = f"POST {BEAT} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
HOSTILE = {
    "two lengths": head(BEAT, "Content-Length: 2", "Content-Length: 40") + b"{}" + SMUGGLED,
    "two equal lengths in one field": head(BEAT, "Content-Length: 2, 2") + b"{}",
    "length and chunks": head(BEAT, "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED,
    "chunks and length": head(BEAT, "Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n" + SMUGGLED,
    "chunks twice": head(BEAT, "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + b"0\r\n\r\n",
    "unknown transfer encoding": head(BEAT, "Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "blank before the colon": head(BEAT, "Content-Length : 2") + b"{}",
    "negative length": head(BEAT, "Content-Length: -1") + b"{}",
    "length with a sign": head(BEAT, "Content-Length: +2") + b"{}",
    "length of 2^64": head(BEAT, f"Content-Length: {2**64}") + b"{}",
    "hexadecimal length": head(BEAT, "Content-Length: 0x2") + b"{}",
    "chunk of a negative length": head(BEAT, "Transfer-Encoding: chunked") + b"-1\r\n{}\r\n0\r\n\r\n",
    "chunk of 2^64": head(BEAT, "Transfer-Encoding: chunked") + b"1" + b"0" * 16 + b"\r\n{}\r\n",
    "chunk longer than its length": head(BEAT, "Transfer-Encoding: chunked") + b"1\r\n{}}\r\n0\r\n\r\n",
    "chunks without an end": head(BEAT, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n",
    "field of 100 KB": head(BEAT, f"X-Long: {'x' * 100_000}", "Content-Length: 2") + b"{}",
    "10,000 fields": head(BEAT, *["X-Many: 1"] * 10_000, "Content-Length: 2") + b"{}",
    "path of 100 KB": head(BEAT + "/" + "x" * 100_000, "Content-Length: 2") + b"{}",
    "folded field": head(BEAT, "X-Fold: a", " b: c", "Content-Length: 2") + b"{}",
    "null byte in a field": head(BEAT, "X-Null: a\0b", "Content-Length: 2") + b"{}",
    "bare line breaks": b"POST /healthz HTTP/1.1\nHost: x\nContent-Length: 0\n\n",
    "unknown method": b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "upgrade": b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n",
    "tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n",
}
TOO_LARGE = {"field of 100 KB": 431, "10,000 fields": 431, "path of 100 KB": 431}
#: What is a request all the same, and is answered as one.
HARMLESS = {"upgrade"}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_clear_request_is_refused_and_nothing_behind_it_is_read(place, certificate, name):
    with connected(place, place.running.agent_port, certificate, timeout=2 * DEADLINE_SECONDS) as connection:
        with contextlib.suppress(OSError):  # some are refused before they have been sent
            connection.sendall(HOSTILE[name])
        data = read_answers(connection)
    assert data.count(b"HTTP/1.1 ") <= 1, data
    if data:
        status, said, rest = split_answer(data)
        assert rest == b""
        if name in HARMLESS:
            assert status in {200, 405}
        else:
            assert status == TOO_LARGE.get(name, status)
            assert 400 <= status < 500
            assert set(said) == {"message", "code", "status", "errors"}


def test_a_head_without_an_end_is_refused_long_before_the_deadline(place, certificate):
    with connected(place, place.running.agent_port, certificate) as connection:
        connection.sendall(head(BEAT)[:-2] + b"X-Endless: ")
        began, sent = time.monotonic(), 0
        with contextlib.suppress(OSError):
            while time.monotonic() - began < DEADLINE_SECONDS / 2:
                sent += connection.send(b"x" * 16_384)
        assert sent < 8_000_000
        assert time.monotonic() - began < DEADLINE_SECONDS / 2


def test_a_large_upload_and_the_next_request_may_share_a_packet(place, certificate):
    """Only heads count as heads: what is left of a body in front of one does not."""
    body = heartbeat("a1")
    padded = body + b" " * (60_000 - len(body))
    requests = (head(BEAT, f"Content-Length: {len(padded)}") + padded) * 6
    with connected(place, place.running.agent_port, certificate) as connection:
        connection.sendall(requests + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data, statuses = read_answers(connection), []
    while data:
        status, _, data = split_answer(data)
        statuses.append(status)
    assert statuses == [200] * 7


def test_requests_sent_in_one_go_are_answered_in_their_order(place, certificate):
    body = heartbeat("a1")
    good = head(BEAT, f"Content-Length: {len(body)}") + body
    wrong = head(BEAT, "Content-Length: 2") + b"{}"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connected(place, place.running.agent_port, certificate) as connection:
        connection.sendall(good + wrong + good + last)
        data, statuses = read_answers(connection), []
        while data:
            status, _, data = split_answer(data)
            statuses.append(status)
    assert statuses == [200, 422, 200, 200]


@pytest.mark.parametrize(
    ("with_it", "meanwhile"), [(0, 0), (0, 1), (0, 30), (0, -1), (1, 7), (30, 30), (-1, -1)], ids=str
)
def test_what_comes_while_a_policy_is_withheld_is_answered_after_it(place, certificate, agent, with_it, meanwhile):
    """However much of it came together with the request for the policy, or while that was withheld."""
    revision = place.context.policies.revision_for("a1")
    poll = f"GET /api/v1/endpoint/policy?revision={revision}&wait=0.6 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    following = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n"
    ends = [len(following) if each < 0 else each for each in (with_it, meanwhile)]
    with connected(place, place.running.agent_port, certificate) as connection:
        connection.sendall(poll + following[: ends[0]])
        time.sleep(0.2)
        connection.sendall(following[ends[0] : ends[1]])
        answer = connection.recv(65_536)
        connection.sendall(following[ends[1] :])
        answer += read_answers(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"204", b"200", b"200", b"404"]


def test_a_thousand_requests_in_one_go_hold_up_nobody(place, certificate, agent):
    with connected(place, place.running.agent_port, certificate) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        assert min(seconds_of(agent, "POST", BEAT, heartbeat("a1")) for _ in range(3)) < 1.0


def test_a_client_that_does_not_read_is_given_up_and_holds_up_nobody(place, certificate, agent):
    """Answers of some 20 MB are more than the buffers of both sockets hold."""
    requests = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    with connected(place, place.running.admin_port, timeout=3 * DEADLINE_SECONDS) as connection:
        connection.sendall(requests)
        assert min(seconds_of(agent, "POST", BEAT, heartbeat("a1")) for _ in range(3)) < 1.0
        time.sleep(1.5 * DEADLINE_SECONDS)
        data = read_answers(connection)
    assert 0 < data.count(b"HTTP/1.1 200 OK") < 100, "it was given up before the last answer"


def test_connections_that_end_anywhere_in_a_request_leave_the_server_as_it_was(place, certificate, agent):
    body = heartbeat("a1")
    request = head(BEAT, f"Content-Length: {len(body)}") + body
    for cut in range(0, len(request), 9):
        with connected(place, place.running.agent_port, certificate) as connection:
            connection.sendall(request[:cut])
    assert seconds_of(agent, "POST", BEAT, body) < 5.0
    assert place.person().get(f"https://127.0.0.1:{place.running.admin_port}/readyz").status_code == 200


def test_more_connections_than_there_is_room_for_are_sent_away_with_a_time_to_come_back(tmp_path):
    with server_place(tmp_path, max_connections=3) as place, contextlib.ExitStack() as held:
        for _ in range(3):
            connection = held.enter_context(connected(place, place.running.agent_port))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        with connected(place, place.running.agent_port) as late:
            late.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            data = read_answers(late)
        status, said, _ = split_answer(data)
        assert (status, said["code"]) == (503, "busy")
        assert b"retry-after: 5" in data.lower()
        held.close()
        time.sleep(0.2)
        with connected(place, place.running.agent_port) as again:
            again.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert again.recv(65_536).startswith(b"HTTP/1.1 200")

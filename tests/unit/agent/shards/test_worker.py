"""A shard's answers, without its process: what it does, what it refuses, what it says of itself."""

import os
import socket
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest

from eguard.agent.shards.columns import PartEncoder, load_request
from eguard.agent.shards.messages import (
    Begin,
    ForgetTimes,
    Settle,
    decode_answer,
    decode_request,
    encode,
    receive_frame,
    send_frame,
)
from eguard.agent.shards.shared_block import SharedBlock, open_memory
from eguard.agent.shards.worker import Shard, serve
from eguard.baseline.profile import ProfileTable
from eguard.detection.engine_options import WindowOptions
from eguard.detection.layers import DetectionContent
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.errors import ShardLostError
from eguard.events import EventBatch

CAPACITY = 8
BEGIN = Begin(CAPACITY, WindowOptions(window_events=4, session="s-"))
CONTENT = DetectionContent(prefilter=CommandLinePrefilter({"bad": 1}))


@pytest.fixture
def memory():
    descriptor = open_memory(CAPACITY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def block(memory):
    block = SharedBlock(memory, CAPACITY)
    block.fill(ProfileTable(CAPACITY).learning_columns(), np.zeros(CAPACITY, dtype=np.int64))
    return block


def detect(version, slots, times=None, forgotten=(), lines=None):
    n = len(slots)
    events = EventBatch(
        time_unix=np.arange(n) if times is None else times, event_class=[2] * n, command_line=lines or [""] * n
    )
    return decode_request(
        PartEncoder(CONTENT).encode(
            events,
            np.array(slots, dtype=np.intp),
            np.arange(n),
            version=version,
            forgotten=list(forgotten),
            overdispersion=1.0,
        )
    )


def test_windows_close_into_the_shared_rows(memory, block):
    shard = Shard(BEGIN, memory)
    found = shard.answer(detect(block.begin(3), [5] * 6))
    assert [(window.window_id, window.index) for window in found.closed] == [("s-5.1", 3)]
    assert (found.version, found.generation) == (1, 3)
    assert (found.open_windows, found.waiting_events) == (1, 2)
    assert block.columns["counts"][5].tolist() == [0, 0, 4, 0, 0, 0, 0, 0]
    assert block.serials.tolist() == [0, 0, 0, 0, 0, 1, 0, 0]
    assert np.frombuffer(found.serials, np.int64).tolist() == [1, 1, 1, 1, 2, 2]
    assert np.frombuffer(found.closed_index, np.int64).tolist() == [-1, -1, -1, 0, 0, 0]


def test_content_is_used_from_the_next_request_on(memory, block):
    shard = Shard(BEGIN, memory)
    lines = ["bad", "good"]
    before = shard.answer(detect(block.begin(0), [0, 1], lines=lines))
    shard.answer(load_request(CONTENT, block.begin(0)))
    after = shard.answer(detect(block.begin(0), [0, 1], lines=lines))
    assert np.frombuffer(before.signature_count, np.int64).tolist() == [0, 0]
    assert np.frombuffer(after.signature_count, np.int64).tolist() == [1, 0]


def test_an_evicted_key_leaves_no_open_window(memory, block):
    shard = Shard(BEGIN, memory)
    shard.answer(detect(block.begin(0), [2, 2, 2]))
    found = shard.answer(detect(block.begin(0), [2], forgotten=[2]))
    assert (found.closed, found.open_windows, found.waiting_events) == ([], 1, 1)
    assert shard.answer(ForgetTimes(block.begin(0), [2])).open_windows == 0  # whatever the request is
    settled = shard.answer(Settle(block.begin(0), [], 1e9))
    assert (settled.slots, settled.open_windows) == ([], 0)


def test_settling_learns_and_steps_back_in_time_are_counted_once(memory, block):
    shard = Shard(BEGIN, memory)
    found = shard.answer(detect(block.begin(0), [1, 1, 6], times=np.array([10.0, 5.0, 7.0])))
    settled = shard.answer(Settle(block.begin(0), [], 1e9))
    assert (found.clock_steps, settled.clock_steps, settled.slots) == (0, 1, [1, 6])
    assert shard.answer(Settle(block.begin(0), [], 1e9)).clock_steps == 0


def test_profiles_of_another_version_are_refused(memory, block):
    shard = Shard(BEGIN, memory)
    version = block.begin(0)
    block.begin(0)
    with pytest.raises(ShardLostError, match="version 2, the request of 1"):
        shard.answer(ForgetTimes(version, []))


def test_a_shard_serves_until_the_other_end_is_gone(memory, block):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = threading.Thread(target=serve, args=(theirs, memory))
        server.start()
        send_frame(ours, encode(BEGIN))
        for number in (1, 2):
            send_frame(ours, encode(ForgetTimes(block.begin(9), [])))
            answer = decode_answer(receive_frame(ours))
            assert (answer.version, answer.generation) == (number, 9)
        ours.close()
        server.join(timeout=5.0)
        assert not server.is_alive()


def test_a_shard_that_is_not_begun_serves_nothing(memory):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_frame(ours, encode(ForgetTimes(0, [])))
        with pytest.raises(msgspec.ValidationError):
            serve(theirs, memory)


def test_a_shard_ends_in_the_middle_of_its_work_when_its_agent_is_gone():
    ours, theirs = socket.socketpair()
    busy = """
from eguard.agent.shards import worker
def work(connection, memory):
    connection.send(b"busy")
    while True:
        pass
worker.serve = work
worker.main()
"""
    with ours, theirs:
        command = [sys.executable, "-c", busy, str(theirs.fileno()), "0"]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as shard:
            try:
                theirs.close()
                assert ours.recv(4) == b"busy"
                shard.terminate()  # ignored: the agent decides
                with pytest.raises(subprocess.TimeoutExpired):
                    shard.wait(timeout=0.2)
                ours.close()
                assert shard.wait(timeout=10.0) == 0
            finally:
                shard.kill()

"""One shard: a process with windows of its own over profiles that it shares, doing one request at a time.

It is started by `eguard.agent.shards.process` as ``python -m eguard.agent.shards.worker SOCKET MEMORY`` with two open
descriptors, and ends when the other end of its socket is gone, in the middle of its work if need be: an agent that was
killed leaves no shard behind. Signals that end the agent are the agent's to answer; a shard ignores them.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading

import numpy as np

from eguard.agent.shards.columns import read_content, read_part
from eguard.agent.shards.messages import (
    Answer,
    AnyAnswer,
    AnyRequest,
    Begin,
    Detect,
    ForgetTimes,
    Found,
    Load,
    Settle,
    Settled,
    decode_begin,
    decode_request,
    encode,
    receive_frame,
    send_frame,
)
from eguard.agent.shards.shared_block import ShardTable, SharedBlock
from eguard.detection.layer_stage import LocalStage
from eguard.detection.layers import DetectionContent
from eguard.detection.windows import WindowBank
from eguard.errors import ShardLostError


class Shard:
    """What a shard does with requests.

    Parameters
    ----------
    begin : Begin
        Sizes and settings.
    descriptor : int
        The shared memory.
    """

    def __init__(self, begin: Begin, descriptor: int) -> None:
        self._block = SharedBlock(descriptor, begin.capacity)
        self._table = ShardTable(self._block)
        self._windows = WindowBank(begin.capacity, begin.options)
        self._windows.serials = self._block.serials
        self._stage = LocalStage(DetectionContent(), self._windows, self._table)

    def answer(self, request: AnyRequest) -> AnyAnswer:
        """Do what a request says.

        Raises
        ------
        ShardLostError
            The profiles are not those that the request is for.
        """
        self._check(request.version)
        if request.forgotten:
            self._stage.forget(np.array(request.forgotten, dtype=np.intp))
        steps = self._table.clock_steps_total
        result: AnyAnswer
        match request:
            case Detect():
                result = self._detect(request)
            case Settle():
                result = Settled(0, 0, 0, 0, 0, slots=self._stage.settle(request.before_unix))
            case Load():
                self._stage.swap(read_content(request))
                result = Answer(0, 0, 0, 0, 0)
            case ForgetTimes():
                self._windows.drift.forget_times()
                result = Answer(0, 0, 0, 0, 0)
        self._check(request.version)
        result.version, result.generation = self._block.version, self._block.generation
        result.clock_steps = self._table.clock_steps_total - steps
        result.open_windows, result.waiting_events = self._windows.open_windows, self._windows.waiting_events
        return result

    def _check(self, version: int) -> None:
        if self._block.version != version:
            raise ShardLostError(f"the profiles are of version {self._block.version}, the request of {version}")

    def _detect(self, request: Detect) -> Found:
        self._windows.test.fleet_overdispersion = request.overdispersion
        output = self._stage.run(*read_part(request))
        return Found(
            0,
            0,
            0,
            0,
            0,
            has_indicator=output.hits.has_indicator.tobytes(),
            signature_count=output.hits.signature_count.tobytes(),
            rules=output.hits.rules,
            enrichment=output.hits.enrichment,
            closed=output.windows.closed,
            closed_index=output.windows.closed_index.astype(np.int64).tobytes(),
            serials=output.windows.serials.tobytes(),
        )


def serve(connection: socket.socket, descriptor: int) -> None:
    """Answer requests until the other end is gone."""
    try:
        shard = Shard(decode_begin(receive_frame(connection)), descriptor)
        while True:
            send_frame(connection, encode(shard.answer(decode_request(receive_frame(connection)))))
    except (EOFError, ConnectionError):
        return


def _end_with(connection: socket.socket) -> None:
    """Wait until the other end of a socket is gone, then end this process, whatever else it does."""
    poll = select.poll()
    poll.register(connection, 0)  # a hang-up is always told
    poll.poll()
    os._exit(0)


def main() -> None:
    """Serve on the descriptors that the command line names."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    serve(connection, int(sys.argv[2]))


if __name__ == "__main__":
    main()

"""The processes of a sharded stage: asked together, waited for together, and replaced one by one when they are lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from eguard.agent.shards.columns import load_request
from eguard.agent.shards.messages import AnyAnswer, Begin, encode
from eguard.agent.shards.process import END_SECONDS, ShardProcess
from eguard.agent.shards.routing import KeyRouter
from eguard.agent.shards.shared_block import Columns, SharedBlock
from eguard.detection.engine_options import WindowOptions
from eguard.detection.layers import DetectionContent
from eguard.errors import ShardLostError

#: Processes that are tried for one request before detection is given up.
ATTEMPTS: Final = 3

#: Makes the request of one shard, given its number, the version of the profiles, and what it has to forget first.
Asking = Callable[[int, int, list[int]], bytes]

_log = structlog.get_logger("eguard.agent")


@dataclass(slots=True)
class LossTotals:
    """What was lost with shards: processes, the windows that were open in them, and the events not learned yet."""

    shards: int = 0
    windows: int = 0
    events: int = 0


@dataclass(slots=True)
class _Shard:
    """One shard: its process, what it has still to forget, and what would be lost with it."""

    process: ShardProcess
    forgotten: list[int] = field(default_factory=list)
    open_windows: int = 0
    waiting_events: int = 0


class ShardCrew:
    """Processes that work on one shared block.

    A shard that ends or does not answer is replaced: rows that it was writing are put back as they were, a new process
    with the present content begins with fresh windows, and it gets the same request. What the open windows held is
    lost and counted; what was learned is not.

    Parameters
    ----------
    memory : int
        Descriptor of the shared memory.
    block : SharedBlock
        What lies there.
    router : KeyRouter
        Which slots belong to which shard.
    options : WindowOptions
        Settings of layer 3.
    content : DetectionContent
        What a process detects with when it starts; a swap replaces it here too.
    answer_seconds : float
        How long a shard may take for one request.

    Attributes
    ----------
    losses : LossTotals
        Since the start.
    """

    def __init__(
        self,
        memory: int,
        block: SharedBlock,
        router: KeyRouter,
        options: WindowOptions,
        content: DetectionContent,
        *,
        answer_seconds: float,
    ) -> None:
        self.content = content
        self.losses = LossTotals()
        self._memory = memory
        self._block = block
        self._router = router
        self._begin = encode(Begin(len(block.serials), options))
        self._answer_seconds = answer_seconds
        self._shards: list[_Shard] = []

    @property
    def pids(self) -> list[int]:
        """Process numbers of the shards."""
        return [shard.process.pid for shard in self._shards]

    def start(self, generation: int) -> None:
        """Start all processes and return when they are ready.

        Raises
        ------
        ShardLostError
            One cannot be started.
        """
        version = self._block.begin(generation)
        for _ in range(self._router.n_shards):
            self._shards.append(_Shard(self._started(version)))
        for number in range(self._router.n_shards):
            self._receive(number, version)

    def forget(self, slots: NDArray[np.intp]) -> None:
        """Have evicted slots forgotten: their shards hear of it with their next request."""
        for number, given_up in self._router.forget(slots).items():
            self._shards[number].forgotten += given_up

    def ask(self, request: Asking, rows: Mapping[int, NDArray[np.intp]], generation: int) -> dict[int, AnyAnswer]:
        """Let the shards in `rows`, which may write these rows and no others, work at once; return all answers.

        Raises
        ------
        ShardLostError
            A shard was lost and so were those that replaced it.
        """
        version = self._block.begin(generation)
        saved = {number: self._block.save(own) for number, own in rows.items()}
        for number in rows:
            self._send(number, version, request)
        return {number: self._answer(number, version, request, own, saved[number]) for number, own in rows.items()}

    def close(self) -> None:
        """End all processes; those that do not end by themselves are killed."""
        until = time.monotonic() + END_SECONDS
        for shard in self._shards:
            shard.process.hang_up()
        for shard in self._shards:
            shard.process.end(until)

    def _send(self, number: int, version: int, request: Asking) -> None:
        shard = self._shards[number]
        shard.process.send(request(number, version, shard.forgotten))

    def _answer(self, number: int, version: int, request: Asking, rows: NDArray[np.intp], saved: Columns) -> AnyAnswer:
        """Return a shard's answer to the request that it was sent, from another process if need be."""
        for attempt in range(ATTEMPTS):
            try:
                if attempt:
                    self._shards[number].process = self._started(version)
                    self._receive(number, version)
                    self._send(number, version, request)
                return self._receive(number, version)
            except ShardLostError as error:
                self._block.restore(rows, saved)
                self._count_lost(number, error)
        raise ShardLostError(
            f"{ATTEMPTS} processes of detection shard {number} were lost on one request",
            remedy="Look for `detection shard lost` in the log; EGUARD_DETECTION_SHARDS=1 detects without shards.",
            shard=number,
        )

    def _started(self, version: int) -> ShardProcess:
        """Return a new process that will answer once, when it has the content."""
        try:
            process = ShardProcess(self._memory, self._answer_seconds)
        except OSError as error:
            raise ShardLostError(f"a detection shard cannot be started: {error.strerror}") from error
        process.send(self._begin)
        process.send(encode(load_request(self.content, version)))
        return process

    def _receive(self, number: int, version: int) -> AnyAnswer:
        """Return a shard's answer, which has to be for this version of the profiles."""
        shard = self._shards[number]
        answer = shard.process.receive()
        if (answer.version, answer.generation) != (version, self._block.generation):
            raise ShardLostError(f"a detection shard answered for version {answer.version}", reason="answered late")
        shard.forgotten = []
        shard.open_windows, shard.waiting_events = answer.open_windows, answer.waiting_events
        return answer

    def _count_lost(self, number: int, error: ShardLostError) -> None:
        """End what is left of a shard, and leave no trace of it but in the counts and in the log."""
        shard = self._shards[number]
        self.losses.shards += 1
        self.losses.windows += shard.open_windows
        self.losses.events += shard.waiting_events
        _log.error(
            "detection shard lost",
            shard=number,
            pid=shard.process.pid,
            exit_code=shard.process.kill(),
            reason=error.context.get("reason", error.message),
            windows_lost=shard.open_windows,
            events_lost=shard.waiting_events,
        )
        # Alerts may have named the windows that were open. The next ones are others.
        self._block.serials[self._router.slots_of(number)] += 1
        shard.forgotten, shard.open_windows, shard.waiting_events = [], 0, 0

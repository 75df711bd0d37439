"""Layers 1 to 3 in several processes, as one `LayerStage`.

A batch is cut by process key, each shard evaluates and learns its part, and the answers are put together in order of
delivery. `run` returns when all shards have answered: that is the barrier which lets the agent's process change slots,
seeds and counts for all of them at once (`eguard.agent.shards.shared_block`). What comes out, down to the sequence
numbers of the profiles, is what one process would have given.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
import structlog
from msgspec.structs import replace
from numpy.typing import NDArray

from eguard.agent.shards.columns import PartEncoder, load_request
from eguard.agent.shards.merging import Part, latest_before, merge_hits, merge_windows, number_changes
from eguard.agent.shards.messages import AnyAnswer, Begin, ForgetTimes, Found, Settle, Settled, encode
from eguard.agent.shards.process import END_SECONDS, ShardProcess
from eguard.agent.shards.routing import KeyRouter
from eguard.agent.shards.shared_block import Columns, SharedBlock, open_memory
from eguard.baseline.profile import ProfileTable
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions
from eguard.detection.layer_stage import LayerStage, StageOutput
from eguard.detection.layers import DetectionContent
from eguard.detection.window_batch import BatchWindows, ClosedWindow
from eguard.detection.windows import WindowBank
from eguard.errors import ConfigError, ShardLostError
from eguard.events import EventBatch

#: How long a shard may take for one request. The first batch after new rules arranges them, which takes seconds.
ANSWER_SECONDS: Final = 30.0
#: Processes that are tried for one request before detection is given up.
ATTEMPTS: Final = 3

_log = structlog.get_logger("eguard.agent")

#: Makes a request of one shard for a version of the profiles.
_Ask = Callable[[int, int], bytes]
_NO_ROWS: Final = np.empty(0, dtype=np.intp)


def make_stage(engine: Engine, options: EngineOptions, n_shards: int) -> LayerStage:
    """Return the stage for an engine that has not begun: its own for one shard, processes for more.

    Raises
    ------
    ConfigError
        This system cannot hand descriptors to processes.
    ShardLostError
        A shard cannot be started.
    RuleError
        The rules have no form that can be sent.

    Examples
    --------
    >>> engine = Engine("host-1")
    >>> make_stage(engine, EngineOptions(), 1) is engine.stage
    True
    """
    if n_shards == 1:
        return engine.stage
    if sys.platform == "win32":
        raise ConfigError(
            f"{n_shards} detection shards were asked for; this system allows one",
            remedy="Set EGUARD_DETECTION_SHARDS=1.",
        )
    return ShardedStage.start(n_shards, engine.loaded.content, options, engine.profiles, engine.windows)


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


class ShardedStage:
    """Layers 1 to 3 divided among processes by process key. One thread uses it, and the profiles, until `close`.

    A shard that ends or does not answer is replaced: rows that it was writing are put back as they were, a new process
    with the present content begins with fresh windows, and the shard's part of the batch is run again. What its open
    windows held is lost and counted in `losses`; what was learned is not.

    Parameters
    ----------
    n_shards : int
        Number of processes.
    content : DetectionContent
        Indicators, rules and prefilter; the rules as read from a rule file.
    options : EngineOptions
        Those of the engine.
    profiles : ProfileTable
        Those of the engine. They live in shared memory until `close`.
    windows : WindowBank
        The engine's. It keeps the windows' numbers and the fleet's overdispersion; the windows are in the shards.
    answer_seconds : float
        How long a shard may take for one request.

    Attributes
    ----------
    losses : LossTotals
        Since the start.

    Raises
    ------
    ShardLostError
        A shard cannot be started.
    RuleError
        The rules have no form that can be sent.
    """

    def __init__(
        self,
        n_shards: int,
        content: DetectionContent,
        options: EngineOptions,
        profiles: ProfileTable,
        windows: WindowBank,
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.losses = LossTotals()
        self._content = content
        self._encoder = PartEncoder(content)
        self._options = options
        self._profiles = profiles
        self._windows = windows
        self._answer_seconds = answer_seconds
        self._router = KeyRouter(n_shards, profiles.index)
        self._last: dict[int, ClosedWindow] = {}
        load_request(content, 0)  # refuses what cannot be sent before anything is started
        self._memory = open_memory(profiles.capacity)
        self._block = SharedBlock(self._memory, profiles.capacity)
        self._block.fill(profiles.learning_columns(), windows.serials)
        self._shards: list[_Shard] = []

    @classmethod
    def start(
        cls,
        n_shards: int,
        content: DetectionContent,
        options: EngineOptions,
        profiles: ProfileTable,
        windows: WindowBank,
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> Self:
        """Start the shards and return when all are ready; see the class."""
        stage = cls(n_shards, content, options, profiles, windows, answer_seconds=answer_seconds)
        profiles.adopt(stage._block.columns)
        windows.serials = stage._block.serials
        try:
            version = stage._block.begin(profiles.seeds.generation)
            for _ in range(n_shards):
                stage._shards.append(_Shard(stage._started(version)))
            for number in range(n_shards):
                stage._receive(number, version)
        except (ShardLostError, OSError):
            stage.close()
            raise
        _log.info("detection shards started", shards=n_shards, pids=stage.pids)
        return stage

    @property
    def pids(self) -> list[int]:
        """Process numbers of the shards."""
        return [shard.process.pid for shard in self._shards]

    @property
    def version(self) -> int:
        """Version of the profiles that the latest answers were computed with."""
        return self._block.version

    def run(self, batch: EventBatch, slots: NDArray[np.intp]) -> StageOutput:
        """Evaluate a batch; see `LayerStage`."""
        rows = self._router.parts(slots)
        overdispersion = self._windows.test.fleet_overdispersion

        def detect(number: int, version: int) -> bytes:
            forgotten = self._shards[number].forgotten
            return self._encoder.encode(
                batch, slots, rows[number], version=version, forgotten=forgotten, overdispersion=overdispersion
            )

        asked = {number: _tracked(slots[part]) for number, part in enumerate(rows) if len(part)}
        answers = self._ask(detect, asked)
        parts: list[Part] = []
        for number, answer in answers.items():
            assert isinstance(answer, Found)
            parts.append((rows[number], answer))
        closed, closed_index, serials = merge_windows(len(batch), parts)
        number_changes(closed, self._profiles)
        for window in closed:
            if window.is_held:
                counts = window.unlearned_counts
                self._profiles.hold_back(window.window_id, window.slot, counts, window.closed_unix)
        before = latest_before(closed, self._last)
        self._last.update((window.slot, window) for window in closed)
        return StageOutput(
            merge_hits(batch, parts), BatchWindows(slots, closed, closed_index, serials, before, self._last)
        )

    def forget(self, slots: NDArray[np.intp]) -> None:
        """Clear evicted keys; see `LayerStage`. Their shards hear of it with their next request."""
        for number, given_up in self._router.forget(slots).items():
            self._shards[number].forgotten += given_up
        for slot in slots.tolist():
            self._last.pop(slot, None)

    def settle(self, before_unix: float) -> list[int]:
        """Learn from open windows; see `LayerStage`."""
        self._profiles.held.expire(before_unix)

        def settle(number: int, version: int) -> bytes:
            return encode(Settle(version, self._shards[number].forgotten, before_unix))

        settled: list[int] = []
        for answer in self._ask(settle, {number: self._router.slots_of(number) for number in self._numbers()}).values():
            assert isinstance(answer, Settled)
            settled += answer.slots
        settled.sort()
        if settled:
            self._profiles.mark_changed(np.array(settled, dtype=np.intp))
        return settled

    def swap(self, content: DetectionContent) -> None:
        """Use other content; see `LayerStage`. Every shard has it when this returns."""
        load = load_request(content, 0)
        self._content, self._encoder = content, PartEncoder(content)
        self._ask(lambda _, version: encode(replace(load, version=version)), dict.fromkeys(self._numbers(), _NO_ROWS))

    def forget_times(self) -> None:
        """Forget when alarms were; see `LayerStage`."""
        self._ask(lambda _, version: encode(ForgetTimes(version)), dict.fromkeys(self._numbers(), _NO_ROWS))

    def close(self) -> None:
        """End the shards and take the profiles out of the shared memory. A second call does nothing."""
        if self._memory < 0:
            return
        until = time.monotonic() + END_SECONDS
        for shard in self._shards:
            shard.process.hang_up()
        for shard in self._shards:
            shard.process.end(until)
        self._block.detach()
        self._profiles.adopt(self._block.columns)
        self._windows.serials = self._block.serials
        os.close(self._memory)
        self._memory = -1

    def _numbers(self) -> range:
        return range(len(self._shards))

    def _ask(self, request: _Ask, rows: dict[int, NDArray[np.intp]]) -> dict[int, AnyAnswer]:
        """Let the shards in `rows`, which may write these rows and no others, work at once; return all answers."""
        version = self._block.begin(self._profiles.seeds.generation)
        saved = {number: self._block.save(own) for number, own in rows.items()}
        for number in rows:
            self._shards[number].process.send(request(number, version))
        return {number: self._answer(number, version, request, own, saved[number]) for number, own in rows.items()}

    def _answer(self, number: int, version: int, request: _Ask, rows: NDArray[np.intp], saved: Columns) -> AnyAnswer:
        """Return a shard's answer to the request that it was sent, from another process if need be."""
        for attempt in range(ATTEMPTS):
            try:
                if attempt:
                    self._shards[number].process = self._started(version)
                    self._receive(number, version)
                    self._shards[number].process.send(request(number, version))
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
        process.send(encode(Begin(version, self._profiles.capacity, self._options.windows)))
        process.send(encode(load_request(self._content, version)))
        return process

    def _receive(self, number: int, version: int) -> AnyAnswer:
        """Return a shard's answer, which has to be for this version of the profiles."""
        shard = self._shards[number]
        answer = shard.process.receive()
        if (answer.version, answer.generation) != (version, self._block.generation):
            raise ShardLostError(f"a detection shard answered for version {answer.version}", reason="answered late")
        shard.forgotten = []
        shard.open_windows, shard.waiting_events = answer.open_windows, answer.waiting_events
        self._profiles.clock_steps_total += answer.clock_steps
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


def _tracked(slots: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the slots of events, each once; events without one are passed over."""
    return np.unique(slots[slots >= 0])

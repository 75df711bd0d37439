"""Layers 1 to 3 in several processes, as one `LayerStage`.

A batch is cut by process key, each shard evaluates and learns its part, and the answers are put together in order of
delivery. `run` returns when all shards have answered: that is the barrier which lets the agent's process change slots,
seeds and counts for all of them at once (`eguard.agent.shards.shared_block`). What comes out, down to the sequence
numbers of the profiles, is what one process would have given.
"""

from __future__ import annotations

import os
import sys
from typing import Final, Self

import numpy as np
import structlog
from msgspec.structs import replace
from numpy.typing import NDArray

from eguard.agent.shards.columns import PartEncoder, load_request
from eguard.agent.shards.crew import Asking, LossTotals, ShardCrew
from eguard.agent.shards.merging import Part, latest_before, merge_hits, merge_windows, number_changes
from eguard.agent.shards.messages import AnyAnswer, ForgetTimes, Found, Settle, Settled, encode
from eguard.agent.shards.routing import KeyRouter
from eguard.agent.shards.shared_block import SharedBlock, open_memory
from eguard.baseline.profile import ProfileTable
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions
from eguard.detection.layer_stage import LayerStage, StageOutput
from eguard.detection.layers import DetectionContent
from eguard.detection.packed_windows import PackedWindows
from eguard.detection.window_batch import BatchWindows
from eguard.detection.windows import WindowBank
from eguard.errors import ConfigError, ShardLostError
from eguard.events import EventBatch

#: How long a shard may take for one request. The first batch after new rules arranges them, which takes seconds.
ANSWER_SECONDS: Final = 30.0

_log = structlog.get_logger("eguard.agent")


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


class ShardedStage:
    """Layers 1 to 3 divided among processes by process key. One thread uses it, and the profiles, until `close`.

    A shard that is lost is replaced within the same batch (`eguard.agent.shards.crew`).

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
        self._encoder = PartEncoder(content)
        self._profiles = profiles
        self._windows = windows
        self._router = KeyRouter(n_shards, profiles.index)
        self._last = PackedWindows()
        load_request(content)  # refuses what cannot be sent before anything is started
        self._memory = open_memory(profiles.capacity)
        self._block = SharedBlock(self._memory, profiles.capacity)
        self._block.fill(profiles.learning_columns(), windows.serials)
        self._crew = ShardCrew(
            self._memory, self._block, self._router, options.windows, content, answer_seconds=answer_seconds
        )

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
            stage._crew.start(profiles.seeds.generation)
        except ShardLostError:
            stage.close()
            raise
        _log.info("detection shards started", shards=n_shards, pids=stage.pids)
        return stage

    @property
    def pids(self) -> list[int]:
        """Process numbers of the shards."""
        return self._crew.pids

    @property
    def losses(self) -> LossTotals:
        """What was lost since the start."""
        return self._crew.losses

    @property
    def version(self) -> int:
        """Version of the profiles that the latest answers were computed with."""
        return self._block.version

    def run(self, batch: EventBatch, slots: NDArray[np.intp]) -> StageOutput:
        """Evaluate a batch; see `LayerStage`."""
        rows = self._router.parts(slots)
        overdispersion = self._windows.test.fleet_overdispersion

        def detect(number: int, version: int, forgotten: list[int]) -> bytes:
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
        self._crew.forget(slots)
        for slot in slots.tolist():
            self._last.discard(slot)

    def settle(self, before_unix: float) -> list[int]:
        """Learn from open windows; see `LayerStage`."""
        self._profiles.held.expire(before_unix)

        def settle(_: int, version: int, forgotten: list[int]) -> bytes:
            return encode(Settle(version, forgotten, before_unix))

        settled: list[int] = []
        rows = {number: self._router.slots_of(number) for number in range(self._router.n_shards)}
        for answer in self._ask(settle, rows).values():
            assert isinstance(answer, Settled)
            settled += answer.slots
        settled.sort()
        if settled:
            self._profiles.mark_changed(np.array(settled, dtype=np.intp))
        return settled

    def swap(self, content: DetectionContent) -> None:
        """Use other content; see `LayerStage`. Every shard has it when this returns."""
        load = load_request(content)
        self._crew.content, self._encoder = content, PartEncoder(content)
        self._ask_all(lambda _, version, forgotten: encode(replace(load, version=version, forgotten=forgotten)))

    def forget_times(self) -> None:
        """Forget when alarms were; see `LayerStage`."""
        self._ask_all(lambda _, version, forgotten: encode(ForgetTimes(version, forgotten)))

    def close(self) -> None:
        """End the shards and take the profiles out of the shared memory. A second call does nothing."""
        if self._memory < 0:
            return
        self._crew.close()
        self._block.detach()
        self._profiles.adopt(self._block.columns)
        self._windows.serials = self._block.serials
        os.close(self._memory)
        self._memory = -1

    def _ask(self, request: Asking, rows: dict[int, NDArray[np.intp]]) -> dict[int, AnyAnswer]:
        """Ask the shards in `rows`; see `ShardCrew.ask`."""
        answers = self._crew.ask(request, rows, self._profiles.seeds.generation)
        self._profiles.clock_steps_total += sum(answer.clock_steps for answer in answers.values())
        return answers

    def _ask_all(self, request: Asking) -> None:
        """Ask all shards something that writes no rows."""
        self._ask(request, dict.fromkeys(range(self._router.n_shards), np.empty(0, dtype=np.intp)))


def _tracked(slots: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the slots of events, each once; events without one are passed over."""
    return np.unique(slots[slots >= 0])

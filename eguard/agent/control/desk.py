"""What the control plane has done on the runtime's thread: the one list of it.

Each method is called by a control thread and does its work, through the exchange, between two batches. What comes back
is immutable or a copy.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from eguard.agent.buffer import BufferedAlert
from eguard.agent.calibration import KeptEvent
from eguard.agent.control.exchange import Exchange
from eguard.baseline.facts import BaselineStatus
from eguard.baseline.lifecycle import BaselineMode
from eguard.baseline.slots import ProcessKey
from eguard.baseline.store import BaselineStore
from eguard.baseline.upload import to_wire
from eguard.estimators import seed_concentration
from eguard.wire.baseline import BaselineRow
from eguard.wire.control import BaselineStatusName, BundleStateName, ShadowSummary
from eguard.wire.policy import WhitelistEntry
from eguard.wire.process_key import decode_process_key, encode_process_key

if TYPE_CHECKING:
    from eguard.agent.runtime import AgentRuntime

_NOT_LISTED: Final = -1
_STATUS_NAMES: Final[dict[BaselineStatus, BaselineStatusName]] = {
    BaselineStatus.LEARNING: "learning",
    BaselineStatus.ACTIVE: "active",
    BaselineStatus.STALE: "stale",
}


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the agent is, for a heartbeat."""

    incarnation: str
    baseline_status: BaselineStatusName
    bundle_version: str | None
    events_total: int
    events_lost: int
    queue_depth: int
    trees_seen: int | None = None
    trees_anomalous: int | None = None
    destinations_scored: int | None = None
    destinations_confirmed: int | None = None
    destinations_alpha: float | None = None
    bundle_digest: str | None = None
    bundle_state: BundleStateName | None = None
    refused_digest: str | None = None
    refused_code: str | None = None
    shadow: ShadowSummary | None = None


@dataclass(frozen=True, slots=True)
class UploadSnapshot:
    """Profiles to upload, oldest change first, durable on this machine; `remaining` more of them wait."""

    incarnation: str
    baseline_status: str
    rows: list[BaselineRow]
    remaining: int


@dataclass(frozen=True, slots=True)
class SeedNeed:
    """Whether the baseline has a use for the fleet's seeds, and which generation it holds."""

    is_needed: bool
    generation: int
    baseline_status: str


class RuntimeDesk:
    """The runtime of one agent, as the control plane sees it.

    Parameters
    ----------
    runtime : AgentRuntime
        Touched by its own thread alone.
    exchange : Exchange
        Served by that thread.
    """

    def __init__(self, runtime: AgentRuntime, exchange: Exchange) -> None:
        self._runtime = runtime
        self._exchange = exchange
        self._whitelist: tuple[WhitelistEntry, ...] | None = None

    def vitals(self) -> Vitals:
        """Return how the agent is.

        Raises
        ------
        AgentBusyError
            Detection does not come to it, as for all methods here.
        """
        return self._exchange.ask(self._vitals)

    def upload_snapshot(
        self, limit: int, *, up_to: int | None = None, skipped: Collection[tuple[str, int]] = ()
    ) -> UploadSnapshot:
        """Return the profiles that have waited longest for their upload, after what they hold is on the disk.

        Parameters
        ----------
        limit : int
            Most profiles.
        up_to : int, optional
            Only profiles whose first change has at most this sequence number.
        skipped : collection of (process key, seq)
            Profiles to leave out for as long as they do not change.

        Raises
        ------
        BaselineStoreError
            The store does not work; nothing is to be uploaded that is not on the disk.
        """
        return self._exchange.ask(
            lambda: self._runtime.baseline.change(lambda store: self._snapshot(store, limit, up_to, skipped))
        )

    def waiting_profiles(self) -> tuple[int, int]:
        """Return how many profiles wait for their upload, and the sequence number of the latest change."""

        def count() -> tuple[int, int]:
            table = self._runtime.baseline.table
            return int(np.count_nonzero((table.dirty_since > 0) & (table.sample_count > 0))), table.sequence

        return self._exchange.ask(count)

    def acknowledge(self, rows: Sequence[BaselineRow]) -> None:
        """Remember, durably, that the server has these profiles as they were.

        Raises
        ------
        BaselineStoreError
            They stay dirty and are sent again.
        """
        if rows:
            keys, seqs = [decode_process_key(row.process_key) for row in rows], [row.seq for row in rows]
            self._exchange.ask(lambda: self._runtime.baseline.change(lambda store: store.acknowledge(keys, seqs)))

    def renumber(self, process_keys: Sequence[str]) -> None:
        """Give profiles new sequence numbers: the server has other content under the present ones.

        Raises
        ------
        BaselineStoreError
            The store does not work.
        """
        keys = [decode_process_key(each) for each in process_keys]
        self._exchange.ask(lambda: self._runtime.baseline.change(lambda store: _renumber(store, keys)))

    def seed_need(self, *, wants_first_seed: bool) -> SeedNeed:
        """Return whether seeds are of use: while learning, when stale, and for keys that are learned anew.

        Parameters
        ----------
        wants_first_seed : bool
            Whether the policy made the baseline active on seeds alone, so that it needs a first generation as well.
        """

        def look() -> SeedNeed:
            table, facts = self._runtime.baseline.table, self._runtime.baseline.store.facts
            relearning = table.sample_count[~np.isnan(table.relearn_since)]
            is_needed = (
                facts.status is not BaselineStatus.ACTIVE
                or (wants_first_seed and table.seeds.generation == 0)
                or bool(len(relearning) and (seed_concentration(relearning) > 0.0).any())
            )
            return SeedNeed(is_needed, table.seeds.generation, facts.status.name.lower())

        return self._exchange.ask(look)

    def seed(self, priors: dict[ProcessKey, NDArray[np.float64]], generation: int) -> int:
        """Put the seeds of one whole generation in force, durably; return how many profiles hold one now.

        Between two batches no shard works: each of them meets all of the seeds, or none.

        Raises
        ------
        BaselineStoreError
            The earlier seeds stay.
        """
        return self._exchange.ask(lambda: self._runtime.baseline.change(lambda store: store.seed(priors, generation)))

    def apply_mode(self, mode: str, revision: int) -> bool:
        """Do what a policy asks of the baseline, once; see `BaselineKeeper.apply_mode`."""
        return self._exchange.ask(lambda: self._runtime.baseline.apply_mode(BaselineMode(mode), revision))

    def use_whitelist(self, entries: tuple[WhitelistEntry, ...]) -> None:
        """Have alerts compared with these entries from the next batch on."""
        if entries != self._whitelist:
            self._exchange.ask(lambda: self._runtime.outlet.use_whitelist(entries))
            self._whitelist = entries

    def waiting_alerts(self, limit: int) -> list[BufferedAlert]:
        """Return the alerts that have waited longest.

        Raises
        ------
        AlertBufferError
            The buffer cannot be read.
        """
        return self._exchange.ask(lambda: self._runtime.outlet.waiting(limit))

    def alerts_arrived(self, sequences: Sequence[int]) -> None:
        """Forget alerts that the server has.

        Raises
        ------
        AlertBufferError
            They still wait.
        """
        self._exchange.ask(lambda: self._runtime.outlet.arrived(sequences))

    def waiting_samples(self, limit: int) -> Sequence[KeptEvent]:
        """Return copies of the calibration samples that have waited longest."""

        def look() -> list[KeptEvent]:
            keeper = self._runtime.calibration
            return [] if keeper is None else [replace(event) for event in keeper.waiting(limit)]

        return self._exchange.ask(look)

    def samples_arrived(self, sample_ids: Sequence[str]) -> None:
        """Send these calibration samples no more."""

        def note() -> None:
            if self._runtime.calibration is not None:
                self._runtime.calibration.arrived(frozenset(sample_ids))

        self._exchange.ask(note)

    def sensor_name(self) -> str:
        """Return what watches the machine."""
        return self._exchange.ask(lambda: self._runtime.sensing.sensor.name)

    def _vitals(self) -> Vitals:
        runtime = self._runtime
        counts, bundle = runtime.outlet.counts(), runtime.bundle
        return Vitals(
            incarnation=runtime.baseline.store.incarnation,
            baseline_status=_STATUS_NAMES[runtime.baseline.store.facts.status],
            bundle_version=bundle.content.model_version if bundle is not None else None,
            events_total=int(runtime.totals.events.sum()),
            events_lost=int(runtime.sensing.sensor.counters.lost.sum()),
            queue_depth=counts.waiting if counts is not None else 0,
            **_signals(runtime),
            **_bundle(runtime),
        )

    @staticmethod
    def _snapshot(
        store: BaselineStore, limit: int, up_to: int | None, skipped: Collection[tuple[str, int]]
    ) -> UploadSnapshot:
        store.sync()
        table = store.table
        slots = table.dirty_slots()
        slots = slots[table.sample_count[slots] > 0]
        if up_to is not None:
            slots = slots[table.dirty_since[slots] <= up_to]
        if skipped:
            keep = [
                (encode_process_key(*table.index.key_of(slot)), int(table.seq[slot])) not in skipped
                for slot in slots.tolist()
            ]
            slots = slots[np.array(keep, dtype=bool)]
        return UploadSnapshot(
            incarnation=store.incarnation,
            baseline_status=store.facts.status.name.lower(),
            rows=to_wire(table, slots[:limit]),
            remaining=max(len(slots) - limit, 0),
        )


def _signals(runtime: AgentRuntime) -> dict[str, Any]:
    """Return what the server adds up over the fleet; nothing of what no bundle lets this agent measure."""
    engine, found = runtime.engine, dict[str, Any]()
    loaded = engine.loaded
    if loaded.model is not None:
        found |= {"trees_seen": engine.tree_tally.seen, "trees_anomalous": engine.tree_tally.anomalous}
    calibration = loaded.gate.beacon if loaded.gate is not None else loaded.content.beacon
    if calibration is not None and calibration.threshold is not None and not calibration.insufficient_calibration:
        scored, confirmed = engine.destinations.judge.tally.counts(runtime.now())
        found |= {"destinations_scored": scored, "destinations_confirmed": confirmed}
        found["destinations_alpha"] = calibration.alpha
    return found


def _bundle(runtime: AgentRuntime) -> dict[str, Any]:
    """Return what the server judges a candidate by: which bundle runs, which was refused, what shadow scoring gave."""
    if runtime.bundles is None:
        return {}
    status, shadow = runtime.bundles.keeper.status(), runtime.shadow
    return {
        "bundle_digest": None if runtime.bundle is None else runtime.bundle.digest,
        "bundle_state": status.state,
        "refused_digest": status.refused_digest or None,
        "refused_code": status.refused_code or None,
        "shadow": None if shadow is None else ShadowSummary(**shadow.describe()),
    }


def _renumber(store: BaselineStore, keys: Sequence[ProcessKey]) -> None:
    slots = store.table.index.lookup(keys)
    slots = np.unique(slots[slots != _NOT_LISTED])
    if len(slots):
        store.table.mark_changed(slots)
        store.touch(slots.tolist())
        store.sync()

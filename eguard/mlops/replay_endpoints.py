"""Endpoints in replay: one engine a host, day by simulated day, and every night the fleet.

At night each agent settles and uploads what changed (wire encode, decode, store), the server aggregates, and the new
generation goes back to every agent as its seed; the fleet's tables are rebuilt from what the day has shown. So a day is
scored with what the night before knew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from eguard.baseline.seed import apply_fleet_seed
from eguard.baseline.upload import pack_uploads, to_wire
from eguard.clock import SimulatedClock
from eguard.detection.contacts import fleet_destinations
from eguard.detection.engine import Engine
from eguard.detection.fleet_context import FleetContext
from eguard.detection.fleet_shares import FleetShares
from eguard.detection.gate import ConformalGate
from eguard.detection.layers import DetectionContent
from eguard.detection.model import Model
from eguard.events import EventBatch, EventClass
from eguard.fleet.store import FleetStore
from eguard.mlops.replay_params import ReplayParams
from eguard.mlops.replay_rows import ReplayCollector
from eguard.mlops.simulated_days import SimulatedDays
from eguard.wire.baseline import receive_baseline_batch
from eguard.wire.fleet import FleetPage, FleetRow, decode_fleet_page, encode_fleet_page
from eguard.wire.process_key import decode_process_key

Progress = Callable[[str, int, int], None]

#: Rows of one page of fleet seeds, as agents fetch them.
PAGE_ROWS = 512
#: Stands for the identity of a state folder; replayed agents are installed once.
INCARNATION = "replay"


class EndpointReplay:
    """A fleet of endpoints on a simulated clock.

    Parameters
    ----------
    content : DetectionContent
        Indicators, rules and prefilter; the fleet's tables in it are those of the first day.
    params : ReplayParams
        Sizes of samples and cohorts.
    collector : ReplayCollector
        Takes the scored events.
    seed : int
        Of the agents' reservoirs.
    model, gate : Model, ConformalGate, optional
        Classifier to score with.
    """

    def __init__(
        self,
        content: DetectionContent,
        params: ReplayParams,
        collector: ReplayCollector,
        *,
        seed: int,
        model: Model | None = None,
        gate: ConformalGate | None = None,
    ) -> None:
        self._content = content
        self._params = params
        self._collector = collector
        self._options = params.engine_options(seed)
        self._model, self._gate = model, gate
        self._shares = FleetShares()
        self._overdispersion: float | None = None
        self._engines: dict[str, Engine] = {}
        self._nights: list[dict[str, Any]] = []
        self._uploaded: dict[str, int] = {"bodies": 0, "bytes": 0, "rows": 0, "rejected": 0}

    @property
    def engines(self) -> dict[str, Engine]:
        """Engines by host."""
        return self._engines

    @property
    def fleet(self) -> FleetContext:
        """The fleet's tables as of the last night."""
        return self._content.fleet

    def run(
        self, events: EventBatch, store: FleetStore, clock: SimulatedClock, progress: Progress | None = None
    ) -> None:
        """Replay the events of all hosts; `store` is on `clock`, which this moves."""
        if not len(events):
            return
        days = SimulatedDays.of(events.time_unix)
        day_of, simulated = days.day_of(events.time_unix), days.simulated(events.time_unix)
        hosts, host_of = np.unique(np.array(events.host_id, dtype=np.str_), return_inverse=True)
        order = np.lexsort((simulated, host_of, day_of))
        cuts = np.flatnonzero(np.diff(day_of[order]) | np.diff(host_of[order])) + 1
        for rows in np.split(order, cuts):
            day = int(day_of[rows[0]])
            while len(self._nights) < day:
                self._night(days.midnight_after(len(self._nights)), store, clock)
            self._replay_host(str(hosts[host_of[rows[0]]]), events.take(rows), simulated[rows], day)
            if progress:
                progress("endpoint days", day, len(days))
        self._night(days.midnight_after(len(self._nights)), store, clock)

    def report(self) -> dict[str, Any]:
        """Return the counts of the source, of its uploads and of its nights."""
        published = [night["aggregated"] for night in self._nights]
        return {
            **self._collector.report(),
            "simulated_days": len(self._nights),
            "uploads": dict(sorted(self._uploaded.items())),
            "aggregated_keys_last_night": published[-1] if published else 0,
            "aggregated_keys_most": max(published, default=0),
            "seeded_profiles": sum(int(np.count_nonzero(e.profiles.prior_generation)) for e in self._engines.values()),
            "profiles": sum(len(engine.profiles) for engine in self._engines.values()),
            "fleet_overdispersion": self._overdispersion,
            "held_windows_dropped": sum(e.profiles.held.dropped_windows_total for e in self._engines.values()),
            "held_windows_waiting": sum(len(engine.profiles.held) for engine in self._engines.values()),
            "nights": self._nights,
        }

    def _replay_host(self, host: str, events: EventBatch, simulated: np.ndarray[Any, Any], day: int) -> None:
        """Feed one host's day."""
        engine = self._engine(host)
        engine.restart()
        recorded = events.time_unix
        events.time_unix = simulated
        done = 0
        for batch in events.chunks():
            output = engine.process(batch)
            stop = done + len(batch)
            self._collector.add(
                engine, network_of(host), output, n_events=len(batch), observed_at_unix=recorded[done:stop], day=day
            )
            fired = np.flatnonzero(output.candidates.is_fired).tolist()
            keys, times = output.candidates.keys, output.candidates.batch.time_unix
            self._shares.observe([host] * len(fired), [keys[row] for row in fired], times[fired])
            done = stop
        self._learn_tables(host, events)

    def _learn_tables(self, host: str, events: EventBatch) -> None:
        ports = events.destination_port[events.event_class == EventClass.NETWORK_CONNECT]
        self._shares.observe_ports([host] * len(ports), ports)
        contacts, names = fleet_destinations(events)
        self._shares.observe_destinations([host] * len(names), names, events.time_unix[contacts])
        starts = np.flatnonzero(events.event_class == EventClass.PROCESS_EXEC).tolist()
        parented = [index for index in starts if events.parent_comm[index]]
        self._shares.observe_children([events.parent_comm[i] for i in parented], [events.comm[i] for i in parented])

    def _engine(self, host: str) -> Engine:
        if host not in self._engines:
            engine = Engine(host, self._content, self._options, model=self._model, gate=self._gate)
            self._engines[host] = engine
        engine = self._engines[host]
        engine.swap(content=self._content)
        if self._overdispersion is not None:
            engine.windows.test.fleet_overdispersion = self._overdispersion
        return engine

    def _night(self, midnight: float, store: FleetStore, clock: SimulatedClock) -> None:
        """End a simulated day: uploads, aggregation, seeds, tables."""
        clock.advance_to(midnight)
        for host in sorted(self._engines):
            engine = self._engines[host]
            engine.settle(midnight)
            store.register_agent(host, INCARNATION)
            self._upload(engine, store)
        aggregation = store.aggregate(
            min_agents=self._params.min_agents,
            max_colluders=self._params.max_colluders,
            min_samples=self._params.min_samples,
        )
        rows = fetch_seeds(store)
        for host in sorted(self._engines):
            apply_fleet_seed(self._engines[host].profiles, rows, aggregation.generation)
        self._content = replace(self._content, fleet=self._shares.nightly(midnight))
        self._overdispersion = self._fleet_overdispersion()
        summary = aggregation.to_dict()
        kept = ("generation", "aggregated", "updated", "skipped", "removed", "agents", "votes", "js_mean", "js_max")
        self._nights.append({"day": len(self._nights), **{name: summary[name] for name in kept}})

    def _upload(self, engine: Engine, store: FleetStore) -> None:
        """Send an agent's changed profiles the way an agent does, and note what the server took."""
        packed = pack_uploads(engine.host_id, to_wire(engine.profiles))
        for body in packed.bodies:
            received = receive_baseline_batch(body)
            result = store.upsert_received(INCARNATION, received)
            taken = received.baselines
            keys = [decode_process_key(row.process_key) for row in taken]
            engine.profiles.acknowledge(keys, [row.seq for row in taken])
            self._uploaded["bodies"] += 1
            self._uploaded["bytes"] += len(body)
            self._uploaded["rows"] += result.accepted
            self._uploaded["rejected"] += len(result.rejected)
        self._uploaded["rejected"] += len(packed.unsendable)

    def _fleet_overdispersion(self) -> float | None:
        """Return the median of the keys that have an overdispersion of their own, or None while they are too few."""
        own = []
        for engine in self._engines.values():
            values = (engine.windows.test.own_overdispersion(slot) for slot in engine.profiles.index.used().tolist())
            own += [value for value in values if value is not None]
        return float(median(own)) if len(own) >= self._params.min_fleet_overdispersion_keys else self._overdispersion


def fetch_seeds(store: FleetStore) -> list[FleetRow]:
    """Return the current generation as an agent receives it: page by page, through the wire."""
    generation = store.current_generation()
    rows: list[FleetRow] = []
    cursor = ""
    while page_rows := store.fleet_rows(limit=PAGE_ROWS, cursor=cursor):
        cursor = page_rows[-1].process_key
        page = FleetPage(
            seeded=len(page_rows),
            generation=generation,
            seed_enabled=True,
            fleet_baselines=page_rows,
            next_cursor=cursor if len(page_rows) == PAGE_ROWS else None,
        )
        rows += decode_fleet_page(encode_fleet_page(page)).fleet_baselines
    return rows


def network_of(host: str) -> str:
    """Return the network of an endpoint: the domain of its name.

    Examples
    --------
    >>> network_of("hr001.shire.com"), network_of("wecserver")
    ('shire.com', 'workgroup')
    """
    return host.partition(".")[2] or "workgroup"

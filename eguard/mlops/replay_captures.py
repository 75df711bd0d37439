"""Recordings without process baselines in replay: network captures, and single events that a rule must match."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eguard.detection.contacts import fleet_destinations
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions
from eguard.detection.fleet_shares import FleetShares
from eguard.detection.gate import ConformalGate
from eguard.detection.layers import DetectionContent
from eguard.detection.model import Model
from eguard.events import EventBatch
from eguard.mlops.feature_table import ScoredRows
from eguard.mlops.replay_params import ReplayParams
from eguard.mlops.replay_rows import ReplayCollector
from eguard.mlops.simulated_days import DAY_SECONDS

#: A network log knows no processes: one key holds all that a host does.
_CAPTURE_PROFILES = 16


@dataclass(frozen=True, slots=True)
class CaptureReplay:
    """Network captures: one engine a host, and the capture's own tables every night.

    Parameters
    ----------
    content : DetectionContent
        Indicators, rules and prefilter.
    params : ReplayParams
        Sizes of samples.
    seed : int
        Of the reservoirs.
    model, gate : Model, ConformalGate, optional
        Classifier to score with.
    """

    content: DetectionContent
    params: ReplayParams
    seed: int
    model: Model | None = None
    gate: ConformalGate | None = None

    def run(self, connections: EventBatch) -> tuple[ScoredRows, ReplayCollector, dict[str, Any]]:
        """Replay all captures; return the rows, what was collected, and the counts by capture."""
        collector = ReplayCollector("network", "capture_label")
        groups = np.array(connections.group, dtype=np.str_)
        captures: dict[str, Any] = {}
        reservoirs: dict[str, Any] = {}
        for group in np.unique(groups).tolist():
            events = connections.take(np.flatnonzero(groups == group))
            kept, n_hosts = self._busiest(events)
            engines = self._replay_capture(kept, group, collector)
            reservoirs |= {host: engine.reservoir.sample() for host, engine in engines.items()}
            captures[group] = {
                "connections": len(events),
                "connections_replayed": len(kept),
                "hosts": n_hosts,
                "hosts_replayed": len(engines),
                "contacts_skipped": sum(engine.destinations.skipped for engine in engines.values()),
            }
        return collector.rows(reservoirs), collector, captures

    def _busiest(self, events: EventBatch) -> tuple[EventBatch, int]:
        """Return the events of the hosts with the most connections, in time order, and the number of all hosts."""
        counts = Counter(events.host_id)
        ranked = sorted(counts, key=lambda host: (-counts[host], host))[: self.params.max_hosts_per_capture]
        chosen = set(ranked)
        rows = [index for index, host in enumerate(events.host_id) if host in chosen]
        return events.take(rows).sorted_by_time(), len(counts)

    def _replay_capture(self, events: EventBatch, group: str, collector: ReplayCollector) -> dict[str, Engine]:
        options = EngineOptions(
            max_profiles=_CAPTURE_PROFILES, reservoir_events=self.params.reservoir_events_per_host, seed=self.seed
        )
        engines: dict[str, Engine] = {}
        shares = FleetShares()
        content = self.content
        days = np.floor_divide(events.time_unix, DAY_SECONDS)
        hosts = np.array(events.host_id, dtype=np.str_)
        for day, date in enumerate(np.unique(days).tolist()):
            for host in np.unique(hosts[days == date]).tolist():
                name = f"{group}/{host}"
                if name not in engines:
                    engines[name] = Engine(name, content, options, model=self.model, gate=self.gate)
                engine = engines[name]
                engine.swap(content=content)
                for batch in events.take(np.flatnonzero((days == date) & (hosts == host))).chunks():
                    output = engine.process(batch)
                    collector.add(engine, group, output, n_events=len(batch), observed_at_unix=batch.time_unix, day=day)
                    shares.observe_ports([name] * len(batch), batch.destination_port)
                    contacts, names = fleet_destinations(batch)
                    shares.observe_destinations([name] * len(names), names, batch.time_unix[contacts])
                    fired = output.candidates
                    rows = np.flatnonzero(fired.is_fired).tolist()
                    shares.observe([name] * len(rows), [fired.keys[row] for row in rows], fired.batch.time_unix[rows])
            content = replace(content, fleet=shares.nightly((date + 1.0) * DAY_SECONDS))
        return engines


def replay_positives(
    positives: EventBatch, content: DetectionContent, *, seed: int
) -> tuple[ScoredRows, ReplayCollector, dict[str, Any]]:
    """Replay events that a named rule must match, each alone on a machine that knows nothing of the others.

    Parameters
    ----------
    positives : EventBatch
        `rule_id` names the rule that an event must match.
    content : DetectionContent
        Rules and the rest.
    seed : int
        Not drawn from: every event is scored.

    Returns
    -------
    tuple
        Rows, what was collected, and which rules matched their positives.
    """
    collector = ReplayCollector("sigma", "sigma_regression")
    options = EngineOptions(reservoir_events=1, max_profiles=_CAPTURE_PROFILES, seed=seed)
    counts: Counter[str] = Counter()
    missed, not_loaded = [], []
    matched_rules: set[str] = set()
    known = {rule.id for rule in content.rules.rules}
    for index in range(len(positives)):
        batch = positives.slice(index, index + 1)
        host = f"sigma/{batch.host_id[0]}"
        engine = Engine(host, content, options)
        output = engine.process(batch)
        collector.add(engine, "sigma", output, n_events=1, observed_at_unix=batch.time_unix, day=index)
        counts[host] += 1
        matched = {
            content.rules.rules[rule].id for rule in (*output.hits.rules_at(0), *output.hits.enrichment.get(0, ()))
        }
        if batch.rule_id[0] not in known:
            not_loaded.append(batch.rule_id[0])
        elif batch.rule_id[0] in matched:
            matched_rules.add(batch.rule_id[0])
        else:
            missed.append(batch.rule_id[0])
    rows = collector.rows({host: np.arange(count) for host, count in counts.items()})
    rows = replace(rows, is_reservoir=np.zeros(len(rows), dtype=np.bool_))
    found = {
        "positives": len(positives),
        "matched_by_their_rule": len(positives) - len(missed) - len(not_loaded),
        "rules": len(set(positives.rule_id)),
        "rules_that_matched": len(matched_rules),
        "missed": sorted(missed),
        "rule_not_loaded": sorted(not_loaded),
    }
    return rows, collector, found

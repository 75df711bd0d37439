"""An alert in the light of its host's own past: features 34 and 36 to 41's neighbours, streaming and bounded.

The definitions are those of `docs/reference/features.md`; the constants behind its words are fixed here. "Alert" means
whatever the caller passes: an event on which a rule fired (its key is the rule id) or any other candidate (its key
is ``comm:event_type``). Everything looks back only: a value depends on earlier alerts of the host and on nothing else.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.fleet_context import FleetContext
from eguard.detection.hour_profile import HourProfile
from eguard.events.columns import EventBatch

BURST_WINDOW_SECONDS: Final = 60.0
RECENT_WINDOW_SECONDS: Final = 300.0
SILENCE_SCALE_SECONDS: Final = 7 * 86_400.0
#: Counts at which the features reach 1. Nothing beyond them has to be remembered.
BURST_LOG2_SCALE: Final = 12.0
DISTINCT_RULES_SCALE: Final = 16
DETECTORS_SCALE: Final = 4
COOCCURRENCE_LOG2_SCALE: Final = 8.0
COOCCURRENCE_SCALE: Final = 255
#: Rules or event keys remembered by host; the least recently seen is forgotten first.
MAX_RULES: Final = 4096
#: Alerts remembered in the 60 s window of a host, the oldest dropped first.
MAX_BURST_ALERTS: Final = 65_536
#: A step back of the clock beyond this is a clock that was set: the windows start anew. A smaller one is a late event.
CLOCK_STEP_SECONDS: Final = 3600.0

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ContextColumns:
    """Features 34 to 40 of n alerts, each float64 of shape (n,) in [0, 1], under their contract names."""

    rule_rarity_host: Column
    rule_rarity_fleet: Column
    rule_burst: Column
    distinct_rules: Column
    silence_before: Column
    detector_agreement: Column
    hour_rarity: Column

    def __len__(self) -> int:
        return len(self.rule_burst)

    @classmethod
    def neutral(cls, n: int) -> ContextColumns:
        """Return what a host without any history gives: rare, silent and alone."""
        half, one, zero = np.full(n, 0.5), np.ones(n), np.zeros(n)
        return cls(
            rule_rarity_host=half,
            rule_rarity_fleet=half,
            rule_burst=zero,
            distinct_rules=zero,
            silence_before=one,
            detector_agreement=zero,
            hour_rarity=half,
        )

    def put(self, rows: NDArray[np.intp], values: ContextColumns) -> None:
        """Write `values` to `rows`, in place."""
        for column in fields(self):
            getattr(self, column.name)[rows] = getattr(values, column.name)


def alert_keys(batch: EventBatch) -> list[str]:
    """Return each event's key: its rule id where it has one, else ``comm:event_type``.

    Examples
    --------
    >>> alert_keys(EventBatch(time_unix=[1.0, 2.0], rule_id=["R1", ""], comm=["a", "sh"], event_type=["x", "exec"]))
    ['R1', 'sh:exec']
    """
    return [
        rule or f"{comm}:{event_type}"
        for rule, comm, event_type in zip(batch.rule_id, batch.comm, batch.event_type, strict=True)
    ]


class AlertContext:
    """The context of one host's alerts, in the order in which they arrive.

    Parameters
    ----------
    fleet : FleetContext, optional
        The fleet's tables, for feature 35. Assign `fleet` again when newer ones arrive.

    Notes
    -----
    With n earlier alerts of the same key among N earlier alerts of the host, dt seconds since that key was last seen:

    * rule_rarity_host: 1 - (n + 1/2)/(N + 1), 1/2 for a host's first alert
    * rule_burst: log2(1 + earlier alerts of the key younger than 60 s)/12
    * distinct_rules: keys of the last 300 s, this one included, /16
    * silence_before: log1p(dt)/log1p(7 days), 1 if the key was never seen
    * detector_agreement: named detectors of the last 300 s, this one included, /4
    * hour_rarity: see `HourProfile`

    all clamped at 1. A window holds what is younger than its length: an alert 60 s old has left it. The clock never
    runs backwards: a late alert counts as of the latest one; only a step back beyond an hour, or a time that is no
    number, is taken for a clock being set, and empties the windows (counts and last sightings stay).

    Memory is bounded at about 4 MiB a host by `MAX_RULES` and `MAX_BURST_ALERTS`; an ordinary host needs kilobytes.
    Batches and single alerts give identical results.

    Examples
    --------
    >>> context = AlertContext()
    >>> columns = context.update_keys([0.0, 10.0, 10.0], ["A", "A", "B"], ["suricata", "suricata", "wazuh"])
    >>> columns.rule_rarity_host.round(3).tolist()  # 1 - .5/1, 1 - 1.5/2, 1 - .5/3
    [0.5, 0.25, 0.833]
    >>> columns.distinct_rules.tolist(), columns.detector_agreement.tolist()
    ([0.0625, 0.0625, 0.125], [0.25, 0.25, 0.5])
    """

    def __init__(self, fleet: FleetContext | None = None) -> None:
        self.fleet = fleet if fleet is not None else FleetContext()
        # Per key: [alerts ever, time last seen, alerts in the burst window].
        self._rules: OrderedDict[str, list[float]] = OrderedDict()
        self._burst: deque[tuple[float, list[float]]] = deque()
        self._recent_rules = _RecentNames(DISTINCT_RULES_SCALE)
        self._recent_detectors = _RecentNames(DETECTORS_SCALE)
        self._hours = HourProfile()
        self._clock = -np.inf
        self._n_alerts = 0

    def update(self, batch: EventBatch) -> ContextColumns:
        """Return the context of every event of `batch`, all of one host, and learn them."""
        return self.update_keys(batch.time_unix, alert_keys(batch), batch.detector)

    def update_keys(
        self, time_unix: Sequence[float] | Column, keys: Sequence[str], detectors: Sequence[str]
    ) -> ContextColumns:
        """Return the context of alerts given as columns of equal length, and learn them."""
        first = self._n_alerts
        times = self._monotone(np.asarray(time_unix, np.float64))
        before, distinct, agreeing = self._walk(times.tolist(), keys, detectors)
        seen, last_seen, burst = np.array(before, np.float64).reshape(-1, 3).T
        hour_rarity = self._hour_rarity(times)
        earlier = np.arange(first, first + len(times), dtype=np.float64)
        silence = np.log1p(np.maximum(times - last_seen, 0.0)) / np.log1p(SILENCE_SCALE_SECONDS)
        return ContextColumns(
            rule_rarity_host=1.0 - (seen + 0.5) / (earlier + 1.0),
            rule_rarity_fleet=self.fleet.rule_rarity(keys),
            rule_burst=np.minimum(np.log2(1.0 + burst) / BURST_LOG2_SCALE, 1.0),
            distinct_rules=np.array(distinct, np.float64) / DISTINCT_RULES_SCALE,
            silence_before=np.minimum(silence, 1.0),
            detector_agreement=np.array(agreeing, np.float64) / DETECTORS_SCALE,
            hour_rarity=hour_rarity,
        )

    def _monotone(self, times: Column) -> Column:
        """Return the times at which the alerts count; the only steps back left in them are clocks that were set."""
        forward = np.maximum.accumulate(np.concatenate(([self._clock], times)))[1:]
        if np.all(forward - times <= CLOCK_STEP_SECONDS) and np.all(np.isfinite(times)):
            return forward
        clock, effective = self._clock, np.empty_like(times)
        for index, time in enumerate(times.tolist()):
            if not np.isfinite(time):
                clock = clock if np.isfinite(clock) else 0.0
            elif time > clock or clock - time > CLOCK_STEP_SECONDS:
                clock = time
            effective[index] = clock
        return effective

    def _walk(
        self, times: list[float], keys: Sequence[str], detectors: Sequence[str]
    ) -> tuple[list[tuple[float, float, float]], list[int], list[int]]:
        """Pass over the alerts once; this loop bounds the throughput, so it only counts and looks up."""
        rules, burst, clock = self._rules, self._burst, self._clock
        count_rules, count_detectors = self._recent_rules.count, self._recent_detectors.count
        before: list[tuple[float, float, float]] = []
        distinct: list[int] = []
        agreeing: list[int] = []
        for time, key, detector in zip(times, keys, detectors, strict=True):
            if time < clock:
                self._restart_windows()
            clock = time
            horizon = time - BURST_WINDOW_SECONDS
            while burst and burst[0][0] <= horizon:
                burst.popleft()[1][2] -= 1.0
            record = rules.get(key)
            if record is None:
                record = rules[key] = [0.0, -np.inf, 0.0]
                if len(rules) > MAX_RULES:
                    rules.popitem(last=False)
            else:
                rules.move_to_end(key)
            before.append((record[0], record[1], record[2]))
            record[0] += 1.0
            record[1] = time
            record[2] += 1.0
            burst.append((time, record))
            if len(burst) > MAX_BURST_ALERTS:
                burst.popleft()[1][2] -= 1.0
            distinct.append(count_rules(key, time))
            agreeing.append(count_detectors(detector, time))
        self._clock = clock
        self._n_alerts += len(times)
        return before, distinct, agreeing

    def _restart_windows(self) -> None:
        for _, record in self._burst:
            record[2] = 0.0
        self._burst.clear()
        self._recent_rules.clear()
        self._recent_detectors.clear()

    def _hour_rarity(self, times: Column) -> Column:
        """Ask the profile once a minute: within one its answer does not change."""
        if not len(times):
            return np.empty(0)
        starts = np.flatnonzero(np.diff(times // 60.0, prepend=np.nan) != 0.0)
        rarities = [self._hours.rarity_at(time) for time in times[starts].tolist()]
        return np.repeat(rarities, np.diff(starts, append=len(times)))


class _RecentNames:
    """How many distinct names the last 300 s brought, counted up to a limit; beyond it the oldest is forgotten."""

    __slots__ = ("_last_seen", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last_seen: OrderedDict[str, float] = OrderedDict()

    def count(self, name: str, time: float) -> int:
        """Note `name` (unless blank) at `time` and return the number of names of the window."""
        last_seen = self._last_seen
        if name:
            last_seen[name] = time
            last_seen.move_to_end(name)
        while last_seen:
            oldest = next(iter(last_seen))
            if last_seen[oldest] > time - RECENT_WINDOW_SECONDS and len(last_seen) <= self._limit:
                break
            del last_seen[oldest]
        return len(last_seen)

    def clear(self) -> None:
        """Forget all names."""
        self._last_seen.clear()


class FleetCooccurrence:
    """How many other hosts of a fleet showed the same rule in the last 300 s (feature 42).

    Alerts of all hosts come in time order, as they do at the server's ingest. The last 256 hosts of a rule are
    remembered, which is where the feature saturates, for the 4,096 rules seen most recently.

    Examples
    --------
    >>> fleet = FleetCooccurrence()
    >>> fleet.update(["a", "b", "a", "c"], ["R", "R", "R", "R"], [0.0, 10.0, 20.0, 311.0]).tolist()
    [0, 1, 1, 1]
    """

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    def update(
        self, host_ids: Sequence[str], rule_ids: Sequence[str], time_unix: Sequence[float] | Column
    ) -> NDArray[np.int64]:
        """Return the number of other hosts for each alert, shape (n,), and learn the alerts."""
        counts = []
        for host, rule, time in zip(host_ids, rule_ids, np.asarray(time_unix, np.float64).tolist(), strict=True):
            hosts = self._hosts.setdefault(rule, OrderedDict())
            self._hosts.move_to_end(rule)
            if len(self._hosts) > MAX_RULES:
                self._hosts.popitem(last=False)
            hosts[host] = time
            hosts.move_to_end(host)
            while True:
                oldest = next(iter(hosts))
                if hosts[oldest] > time - RECENT_WINDOW_SECONDS and len(hosts) <= COOCCURRENCE_SCALE + 1:
                    break
                del hosts[oldest]
            counts.append(len(hosts) - 1)
        return np.array(counts, np.int64)


def cooccurrence_feature(other_hosts: NDArray[np.int64]) -> Column:
    """Return feature 42 of the counts of `FleetCooccurrence`: log2(1 + n)/8, clamped."""
    feature: Column = np.minimum(np.log2(1.0 + other_hosts) / COOCCURRENCE_LOG2_SCALE, 1.0)
    return feature

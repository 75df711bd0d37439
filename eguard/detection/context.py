"""An alert in the light of its host's own past and of its fleet (features 34 to 40 and 42), streaming and bounded.

The definitions are those of `docs/reference/features.md`; the constants behind its words are fixed here. "Alert" means
whatever the caller passes: an event on which a rule fired (its key is the rule id) or any other candidate (its key
is ``comm:event_type``). Everything looks back only: a value depends on earlier alerts of the host and on nothing else.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.cooccurrence import FleetCooccurrence
from eguard.detection.fleet_context import FleetContext
from eguard.detection.hour_profile import HourProfile
from eguard.detection.sightings import BURST_WINDOW_SECONDS, RecentNames, Sightings
from eguard.events.columns import EventBatch

RECENT_WINDOW_SECONDS: Final = 300.0
SILENCE_SCALE_SECONDS: Final = 7 * 86_400.0
#: Counts at which the features reach 1. Nothing beyond them has to be remembered.
BURST_LOG2_SCALE: Final = 12.0
DISTINCT_RULES_SCALE: Final = 16
DETECTORS_SCALE: Final = 4
#: Rules or event keys remembered by host; the least recently seen is forgotten first.
MAX_RULES: Final = 4096
#: Alerts remembered in the 60 s window of a host, the oldest dropped first.
MAX_BURST_ALERTS: Final = 65_536
#: A step back of the clock beyond this is a clock that was set: the windows start anew. A smaller one is a late event.
CLOCK_STEP_SECONDS: Final = 3600.0

Column = NDArray[np.float64]

__all__ = ["AlertContext", "ContextColumns", "FleetCooccurrence", "alert_keys"]


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
    All minutes are clock minutes, all "earlier" ones lie before the alert's own::

        rule_rarity_host   = 1 - (m + 1/2)/(M + 1), m earlier minutes in which the key alerted on this host,
                             M earlier minutes in which anything did
        rule_burst         = log2(1 + earlier alerts of the key younger than 60 s)/12
        distinct_rules     = keys of the last 300 s, this one included, /16
        silence_before     = log1p(s)/log1p(7 days), s the seconds without this key before its present run of alerts
                             (a run has no gap of 60 s); 1 if the run is the first
        detector_agreement = named detectors of the last 300 s, this one included, /4
        hour_rarity        = see `HourProfile`

    all clamped at 1. Shares count minutes, and silence is that before the run, for one reason: a flood of alerts is one
    happening. Counted alert by alert it would make itself ordinary within a second, and all else on the host rare.

    A window holds what is younger than its length: an alert 60 s old has left it. The clock never runs backwards: a
    late alert counts as of the latest one; only a step back beyond an hour, or a time that is no number, is taken for a
    clock being set, and empties the windows. Memory is bounded at about 6 MiB a host by `MAX_RULES` and
    `MAX_BURST_ALERTS`; an ordinary host needs kilobytes. Batches and single alerts give identical results.

    Examples
    --------
    >>> context = AlertContext()
    >>> columns = context.update_keys([0.0, 10.0, 70.0, 70.0], list("AAAB"), ["suricata"] * 3 + ["wazuh"])
    >>> columns.rule_rarity_host.tolist()  # nothing known: 1/2; one minute, the rule in it: 1 - 1.5/2, else 1 - .5/2
    [0.5, 0.5, 0.25, 0.75]
    >>> columns.silence_before.round(3).tolist(), columns.distinct_rules.tolist()
    ([1.0, 1.0, 0.309, 1.0], [0.0625, 0.0625, 0.0625, 0.125])
    """

    def __init__(self, fleet: FleetContext | None = None) -> None:
        self.fleet = fleet if fleet is not None else FleetContext()
        self._rules: OrderedDict[str, Sightings] = OrderedDict()
        self._burst: deque[tuple[float, Sightings]] = deque()
        self._recent_rules = RecentNames(DISTINCT_RULES_SCALE, RECENT_WINDOW_SECONDS)
        self._recent_detectors = RecentNames(DETECTORS_SCALE, RECENT_WINDOW_SECONDS)
        self._hours = HourProfile()
        self._clock = -np.inf
        self._minute = -np.inf
        self._n_minutes = -1

    def update(self, batch: EventBatch) -> ContextColumns:
        """Return the context of every event of `batch`, all of one host, and learn them."""
        return self.update_keys(batch.time_unix, alert_keys(batch), batch.detector)

    def update_keys(
        self, time_unix: Sequence[float] | Column, keys: Sequence[str], detectors: Sequence[str]
    ) -> ContextColumns:
        """Return the context of alerts given as columns of equal length, and learn them."""
        times = _monotone(np.asarray(time_unix, np.float64), self._clock)
        host_minutes = self._count_minutes(times)
        minutes, silences, bursts, distinct, agreeing = self._walk(times.tolist(), keys, detectors)
        silence = np.log1p(np.maximum(silences, 0.0)) / np.log1p(SILENCE_SCALE_SECONDS)
        return ContextColumns(
            rule_rarity_host=1.0 - (np.minimum(minutes, host_minutes) + 0.5) / (host_minutes + 1.0),
            rule_rarity_fleet=self.fleet.rule_rarity(keys),
            rule_burst=np.minimum(np.log2(1.0 + np.array(bursts, np.float64)) / BURST_LOG2_SCALE, 1.0),
            distinct_rules=np.array(distinct, np.float64) / DISTINCT_RULES_SCALE,
            silence_before=np.minimum(silence, 1.0),
            detector_agreement=np.array(agreeing, np.float64) / DETECTORS_SCALE,
            hour_rarity=self._hour_rarity(times),
        )

    def _walk(
        self, times: list[float], keys: Sequence[str], detectors: Sequence[str]
    ) -> tuple[list[int], list[float], list[int], list[int], list[int]]:
        """Pass over the alerts once; this loop bounds the throughput, so it only counts and looks up."""
        rules, burst, clock = self._rules, self._burst, self._clock
        recent_rules, recent_detectors = self._recent_rules, self._recent_detectors
        minutes: list[int] = []
        silences: list[float] = []
        bursts: list[int] = []
        distinct: list[int] = []
        agreeing: list[int] = []
        for time, key, detector in zip(times, keys, detectors, strict=True):
            if time < clock:
                self._restart_windows()
            clock = time
            horizon = time - BURST_WINDOW_SECONDS
            while burst and burst[0][0] <= horizon:
                burst.popleft()[1].in_burst -= 1
            rule = rules.get(key)
            if rule is None:
                rule = rules[key] = Sightings()
                if len(rules) > MAX_RULES:
                    rules.popitem(last=False)
            else:
                rules.move_to_end(key)
            rule.see(time)
            minutes.append(rule.n_minutes)
            silences.append(rule.silence_seconds)
            bursts.append(rule.in_burst)
            rule.in_burst += 1
            burst.append((time, rule))
            if len(burst) > MAX_BURST_ALERTS:
                burst.popleft()[1].in_burst -= 1
            distinct.append(recent_rules.count(key, time))
            agreeing.append(recent_detectors.count(detector, time))
        self._clock = clock
        return minutes, silences, bursts, distinct, agreeing

    def _restart_windows(self) -> None:
        for _, rule in self._burst:
            rule.in_burst = 0
        self._burst.clear()
        self._recent_rules.clear()
        self._recent_detectors.clear()

    def _count_minutes(self, times: Column) -> Column:
        """Return how many minutes with alerts lie before each alert's own."""
        if not len(times):
            return np.empty(0)
        minutes = times // 60.0
        counts: Column = self._n_minutes + np.cumsum(np.diff(minutes, prepend=self._minute) != 0.0, dtype=np.float64)
        self._minute, self._n_minutes = float(minutes[-1]), int(counts[-1])
        return counts

    def _hour_rarity(self, times: Column) -> Column:
        """Ask the profile once a minute: within one its answer does not change."""
        if not len(times):
            return np.empty(0)
        starts = np.flatnonzero(np.diff(times // 60.0, prepend=np.nan) != 0.0)
        rarities = [self._hours.rarity_at(time) for time in times[starts].tolist()]
        return np.repeat(rarities, np.diff(starts, append=len(times)))


def _monotone(times: Column, clock: float) -> Column:
    """Return the times at which the alerts count; the only steps back left in them are clocks that were set."""
    forward: Column = np.maximum.accumulate(np.concatenate(([clock], times)))[1:]
    if np.all(np.isfinite(times)) and np.all(forward - times <= CLOCK_STEP_SECONDS):
        return forward
    effective = np.empty_like(times)
    for index, time in enumerate(times.tolist()):
        if not np.isfinite(time):
            clock = clock if np.isfinite(clock) else 0.0
        elif time > clock or clock - time > CLOCK_STEP_SECONDS:
            clock = time
        effective[index] = clock
    return effective

"""When attacks began, and what alarms are worth against that: delay, misses, false alarms a week.

Steps of one intrusion follow one another within minutes, so an alarm belongs to an *episode*: steps with less than a
few hours between them. An alarm counts as its detection from the onset until a few hours after its end, the horizon.
Every alarm outside all horizons is false, and only time outside them, from when the detector was able to alarm, counts
as attack-free.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.errors import ConfigError
from eguard.mlops.drift_alerts import HOUR_SECONDS, NetworkAlerts
from eguard.mlops.drift_intervals import median_with_interval, poisson_interval

WEEK_HOURS: Final = 168.0


@dataclass(frozen=True, slots=True)
class Episode:
    """Steps of an attack that belong together, on a network or on one of its hosts.

    Attributes
    ----------
    network, host : str
        Where; `host` is "" for the network as a whole.
    start_unix, end_unix : float
        First and last alert of it there.
    steps : tuple of str
        In order of their onset.
    """

    network: str
    host: str
    start_unix: float
    end_unix: float
    steps: tuple[str, ...]


def read_episodes(path: Path, gap_hours: float) -> tuple[list[Episode], list[Episode]]:
    """Return the episodes and the single steps of all networks, from the data set's table of attack windows.

    Parameters
    ----------
    path : Path
        CSV with network, step, t_first_unix and t_last_unix. No file: no attack is known.
    gap_hours : float
        A step that begins less than this after the end of the episode so far belongs to it.

    Raises
    ------
    ConfigError
        A column is missing or a time is no number.
    """
    if not path.exists():
        return [], []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            windows = [
                Episode(row["network"], "", float(row["t_first_unix"]), float(row["t_last_unix"]), (row["step"],))
                for row in csv.DictReader(file)
            ]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is no table of attack windows: {error}", path=str(path)) from error
    windows.sort(key=lambda step: (step.network, step.start_unix, step.steps))
    episodes: list[Episode] = []
    for step in windows:
        last = episodes[-1] if episodes and episodes[-1].network == step.network else None
        if last and step.start_unix - last.end_unix < gap_hours * HOUR_SECONDS:
            end = max(last.end_unix, step.end_unix)
            episodes[-1] = Episode(last.network, "", last.start_unix, end, last.steps + step.steps)
        else:
            episodes.append(step)
    return episodes, windows


def on_hosts(network: NetworkAlerts, episodes: Iterable[Episode], steps: NDArray[np.bool_]) -> list[Episode]:
    """Return what an episode is on each host: from the first to the last of its own alerts that belong to the attack.

    Parameters
    ----------
    network : NetworkAlerts
        Alerts with their labels.
    episodes : iterable of Episode
        Of this network.
    steps : ndarray of bool, shape (n_steps,)
        Steps that are in the stream; "" may be among them.
    """
    attack = np.array([step != "" for step in network.steps]) & steps
    rows = np.flatnonzero(attack[network.step])
    found = []
    for episode in episodes:
        times = network.time_unix[rows]
        inside = rows[(times >= episode.start_unix) & (times <= episode.end_unix)]
        for host in np.unique(network.host[inside]).tolist():
            own = network.time_unix[inside[network.host[inside] == host]]
            name = network.hosts[host]
            found.append(Episode(network.name, name, float(own[0]), float(own[-1]), episode.steps))
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one detector did on some series.

    Attributes
    ----------
    delays_hours : tuple of float
        One for each episode, from its onset to the first alarm within its horizon; infinity for a miss.
    spans_hours : tuple of float
        One for each episode: how long an alarm counted as its detection.
    found_anyway : int
        Episodes within whose horizon the detector alarms just as well when the whole attack is taken out of the stream.
    unarmed : int
        Misses that began before the detector was able to alarm.
    false_alarms : int
        Alarms outside all horizons.
    attack_free_hours : float
        Watched hours outside all horizons, summed over series.
    """

    delays_hours: tuple[float, ...] = ()
    spans_hours: tuple[float, ...] = ()
    found_anyway: int = 0
    unarmed: int = 0
    false_alarms: int = 0
    attack_free_hours: float = 0.0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.delays_hours + other.delays_hours,
            self.spans_hours + other.spans_hours,
            self.found_anyway + other.found_anyway,
            self.unarmed + other.unarmed,
            self.false_alarms + other.false_alarms,
            self.attack_free_hours + other.attack_free_hours,
        )

    @property
    def found(self) -> int:
        """Episodes that were found."""
        return sum(np.isfinite(self.delays_hours).tolist())

    @property
    def false_alarms_per_week(self) -> float:
        """Alarms in a week of attack-free time of one series; infinity if none was watched."""
        return self.false_alarms / self.attack_free_hours * WEEK_HOURS if self.attack_free_hours else np.inf

    @property
    def found_by_chance(self) -> float:
        """Episodes that alarms at the false-alarm rate alone would be expected to hit, had there been no attack."""
        rate = self.false_alarms_per_week / WEEK_HOURS
        # Adding 0.0 turns -0.0, which is what no alarm gives, into 0.0.
        return float(-np.expm1(-rate * np.array(self.spans_hours)).sum()) + 0.0

    def to_json(self) -> dict[str, Any]:
        """Return counts, rates and delays with 95 % intervals; null where there is no answer."""
        rate = None
        if self.attack_free_hours:
            weeks = self.attack_free_hours / WEEK_HOURS
            low, high = poisson_interval(self.false_alarms)
            rate = {"value": self.false_alarms / weeks, "interval": [low / weeks, high / weeks]}
        return {
            "episodes": len(self.delays_hours),
            "found": self.found,
            "missed": len(self.delays_hours) - self.found,
            "missed_unarmed": self.unarmed,
            "found_anyway": self.found_anyway,
            "found_by_chance": self.found_by_chance if self.attack_free_hours else None,
            "delay_hours": median_with_interval(self.delays_hours),
            "delay_of_found_hours": median_with_interval([hours for hours in self.delays_hours if np.isfinite(hours)]),
            "false_alarms": self.false_alarms,
            "attack_free_hours": self.attack_free_hours,
            "false_alarms_per_week": rate,
        }


def judge(
    alarms_unix: Sequence[NDArray[np.float64]],
    armed_unix: NDArray[np.float64],
    episodes: Sequence[Sequence[Episode]],
    *,
    controls_unix: Sequence[NDArray[np.float64]],
    end_unix: float,
    blocked: Sequence[tuple[float, float]],
    horizon_hours: float,
) -> Outcome:
    """Compare the alarms of some series of one network with what happened there.

    Parameters
    ----------
    alarms_unix : sequence of ndarray
        Times of alarm of each series, rising.
    armed_unix : ndarray of shape (n_series,)
        When each was first able to alarm; infinity for never.
    episodes : sequence of sequence of Episode
        What there was to find on each series.
    controls_unix : sequence of ndarray
        Times of alarm of each series when the whole attack is taken out of the stream.
    end_unix : float
        End of the stream.
    blocked : sequence of (float, float)
        Spans of time in which an alarm is not false.
    horizon_hours : float
        How long after an episode's end an alarm still counts as its detection.
    """
    horizon = horizon_hours * HOUR_SECONDS
    delays: list[float] = []
    spans: list[float] = []
    anyway = unarmed = false_alarms = 0
    hours = 0.0
    for alarms, controls, armed, own in zip(alarms_unix, controls_unix, armed_unix.tolist(), episodes, strict=True):
        for episode in own:
            stop = episode.end_unix + horizon
            hits = alarms[(alarms > episode.start_unix) & (alarms <= stop)]
            anyway += int(((controls > episode.start_unix) & (controls <= stop)).any())
            spans.append((stop - episode.start_unix) / HOUR_SECONDS)
            delays.append(float(hits[0] - episode.start_unix) / HOUR_SECONDS if hits.size else np.inf)
            unarmed += int(not hits.size and armed > episode.start_unix)
        outside = np.ones(alarms.shape, dtype=np.bool_)
        for start, stop in blocked:
            outside &= (alarms <= start) | (alarms > stop)
        false_alarms += int(np.count_nonzero(outside))
        hours += _free_hours(armed, end_unix, blocked)
    return Outcome(tuple(delays), tuple(spans), anyway, unarmed, false_alarms, hours)


def horizons(episodes: Iterable[Episode], horizon_hours: float) -> list[tuple[float, float]]:
    """Return the spans in which an alarm is not false: each episode with its horizon, merged where they overlap."""
    spans: list[tuple[float, float]] = []
    for episode in sorted(episodes, key=lambda episode: episode.start_unix):
        stop = episode.end_unix + horizon_hours * HOUR_SECONDS
        if spans and episode.start_unix <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(stop, spans[-1][1]))
        else:
            spans.append((episode.start_unix, stop))
    return spans


def _free_hours(armed: float, end: float, blocked: Sequence[tuple[float, float]]) -> float:
    if not armed < end:
        return 0.0
    taken = sum(max(0.0, min(stop, end) - max(start, armed)) for start, stop in blocked)
    return (end - armed - taken) / HOUR_SECONDS

"""Drift detectors against known onsets: settings fixed on one network and tested on the others.

Every network is the one that chooses in turn, and every choice is reported: five networks with two episodes each are
too few for one choice to mean anything by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eguard.mlops.drift_alerts import NetworkAlerts
from eguard.mlops.drift_detectors import Detector
from eguard.mlops.drift_intervals import median_with_interval
from eguard.mlops.drift_onsets import Episode, Outcome, horizons, judge, on_hosts
from eguard.mlops.drift_streams import ALL, ATTACKS_REMOVED, NO_FLOODS, SeriesBank, streams_of

Progress = Callable[[str, int, int], None]
Scope = Literal["network", "host"]
SCOPES: Final[tuple[Scope, ...]] = ("network", "host")


@dataclass(frozen=True, slots=True)
class Case:
    """What one detector with one of its settings is judged on.

    Attributes
    ----------
    detector : str
        Its name.
    setting : int
        Index into its grid; 0 is the default.
    network, stream : str
        Where.
    scope : str
        The series of the network, or those of its hosts together.
    """

    detector: str
    setting: int
    network: str
    stream: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class _Task:
    """Series that are judged together, with what there is to find on each."""

    network: str
    stream: str
    scope: Scope
    rows: NDArray[np.intp]
    #: The same series with the whole attack removed.
    controls: NDArray[np.intp]
    end_unix: float
    episodes: list[list[Episode]]
    blocked: list[tuple[float, float]]


class Evaluation:
    """Outcomes of every detector, setting, network, stream and scope.

    Parameters
    ----------
    networks : sequence of NetworkAlerts
        Networks.
    bank : SeriesBank
        Their series.
    episodes, steps : sequence of Episode
        Of all networks: what is to be found, and its single steps for the streams that hold no other.
    detectors : sequence of Detector
        What to judge.
    horizon_hours : float
        How long after an episode's end an alarm still counts as its detection.
    progress : callable, optional
        Told which detector is at work.
    """

    def __init__(
        self,
        networks: Sequence[NetworkAlerts],
        bank: SeriesBank,
        episodes: Sequence[Episode],
        steps: Sequence[Episode],
        *,
        detectors: Sequence[Detector],
        horizon_hours: float,
        progress: Progress | None = None,
    ) -> None:
        self.detectors = tuple(detectors)
        self.networks = tuple(network.name for network in networks)
        self.outcomes: dict[Case, Outcome] = {}
        #: Times of alarm on whole networks, all steps in the stream.
        self.alarms: dict[Case, list[float]] = {}
        tasks = list(_tasks(networks, bank, episodes, steps, horizon_hours))
        for number, detector in enumerate(self.detectors):
            if progress:
                progress(f"drift by {detector.name}", number, len(self.detectors))
            for setting, settings in enumerate(detector.grid):
                alarms, armed = bank.alarms(detector, settings)
                for task in tasks:
                    case = Case(detector.name, setting, task.network, task.stream, task.scope)
                    own = [alarms[row] for row in task.rows]
                    self.outcomes[case] = judge(
                        own,
                        armed[task.rows],
                        task.episodes,
                        controls_unix=[alarms[row] for row in task.controls],
                        end_unix=task.end_unix,
                        blocked=task.blocked,
                        horizon_hours=horizon_hours,
                    )
                    if task.scope == "network" and task.stream == ALL:
                        self.alarms[case] = own[0].tolist()

    def outcome(self, detector: str, setting: int, networks: Iterable[str], stream: str, scope: Scope) -> Outcome:
        """Return the outcome over several networks together."""
        cases = (Case(detector, setting, network, stream, scope) for network in networks)
        return sum((self.outcomes[case] for case in cases if case in self.outcomes), Outcome())

    def choose(self, detector: Detector, network: str, scope: Scope, most_per_week: float) -> int:
        """Return the setting that one network alone would choose.

        Of those with at most `most_per_week` false alarms there, the one that finds most; then the fewest false alarms,
        the shortest median delay, and the place in the grid. If none is that quiet, the quietest.
        """

        def cost(setting: int) -> tuple[float, ...]:
            outcome = self.outcome(detector.name, setting, (network,), ALL, scope)
            rate = outcome.false_alarms_per_week
            if rate > most_per_week:
                return (1.0, rate, -outcome.found, setting)
            delay = float(np.median(outcome.delays_hours)) if outcome.delays_hours else np.inf
            return (0.0, -outcome.found, rate, delay, setting)

        return min(range(len(detector.grid)), key=cost)

    def report(self, scope: Scope, most_per_week: float) -> list[dict[str, Any]]:
        """Return, for each detector: its defaults on all networks, and every network's choice on the others."""
        return [self._detector_report(detector, scope, most_per_week) for detector in self.detectors]

    def _detector_report(self, detector: Detector, scope: Scope, most_per_week: float) -> dict[str, Any]:
        choices = []
        for chooser in self.networks:
            setting = self.choose(detector, chooser, scope, most_per_week)
            others = [network for network in self.networks if network != chooser]
            choices.append(
                {
                    "network": chooser,
                    "setting": setting,
                    "settings": dict(detector.grid[setting]),
                    "there": self.outcome(detector.name, setting, (chooser,), ALL, scope).to_json(),
                    "others": self._streams(detector.name, setting, others, scope),
                }
            )
        return {
            "detector": detector.name,
            "reference": detector.reference or "own past",
            "default": {
                "settings": dict(detector.grid[0]),
                **self._streams(detector.name, 0, self.networks, scope),
            },
            "chosen": choices,
        }

    def grid_report(self, scope: Scope) -> list[dict[str, Any]]:
        """Return the outcome of every setting of every detector on all networks together."""
        return [
            {
                "detector": detector.name,
                "settings": dict(settings),
                **self._streams(detector.name, setting, self.networks, scope),
            }
            for detector in self.detectors
            for setting, settings in enumerate(detector.grid)
        ]

    def _streams(self, detector: str, setting: int, networks: Sequence[str], scope: Scope) -> dict[str, Any]:
        return {
            stream: self.outcome(detector, setting, networks, stream, scope).to_json()
            for stream in (ALL, NO_FLOODS, ATTACKS_REMOVED)
        }

    def steps_report(self, steps: Iterable[str], most_per_week: float) -> list[dict[str, Any]]:
        """Return, for each step alone in its stream, on how many networks each detector found it.

        ``default`` counts and names networks at the default settings, and ``anyway`` counts those on which the detector
        alarms there and then without the step too; ``chosen`` is the mean, over the networks that choose, of the share
        of the others on which it was found.
        """
        chosen = {
            detector.name: {
                network: self.choose(detector, network, "network", most_per_week) for network in self.networks
            }
            for detector in self.detectors
        }
        return [
            {
                "step": step,
                "networks": len({case.network for case in self.outcomes if case.stream == step}),
                "detectors": {name: self._step(name, step, settings) for name, settings in chosen.items()},
            }
            for step in steps
        ]

    def _step(self, detector: str, step: str, chosen: Mapping[str, int]) -> dict[str, Any]:
        default = self.outcome(detector, 0, self.networks, step, "network")
        shares = []
        for chooser, setting in chosen.items():
            others = [network for network in self.networks if network != chooser]
            outcome = self.outcome(detector, setting, others, step, "network")
            if outcome.delays_hours:
                shares.append(outcome.found / len(outcome.delays_hours))
        return {
            "default_found": default.found,
            "default_found_on": [
                network for network in self.networks if self.outcome(detector, 0, (network,), step, "network").found
            ],
            "default_found_anyway": default.found_anyway,
            "default_delay_hours": median_with_interval(default.delays_hours),
            "chosen_found_share": float(np.mean(shares)) if shares else None,
        }


def _tasks(
    networks: Sequence[NetworkAlerts],
    bank: SeriesBank,
    episodes: Sequence[Episode],
    steps: Sequence[Episode],
    horizon_hours: float,
) -> Iterable[_Task]:
    rows: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(bank.keys):
        rows.setdefault((key.network, key.stream), []).append(row)
    for network in networks:
        own = [episode for episode in episodes if episode.network == network.name]
        for stream, chosen in streams_of(network):
            if (network.name, stream) not in rows:
                continue
            index = np.array(rows[network.name, stream], dtype=np.intp)
            controls = np.array(rows[network.name, ATTACKS_REMOVED], dtype=np.intp)[: len(index)]
            whole, hosts = index[:1], index[1:]
            if stream in (ALL, NO_FLOODS):
                wanted = own
            elif stream == ATTACKS_REMOVED:
                wanted = []
            else:
                wanted = [step for step in steps if step.network == network.name and step.steps == (stream,)]
            blocked = horizons(wanted, horizon_hours)
            yield _Task(network.name, stream, "network", whole, controls[:1], network.end_unix, [wanted], blocked)
            if hosts.size:
                found = on_hosts(network, wanted, chosen)
                by_host = [[e for e in found if e.host == bank.keys[row].host] for row in hosts.tolist()]
                yield _Task(network.name, stream, "host", hosts, controls[1:], network.end_unix, by_host, blocked)

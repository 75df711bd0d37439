"""Slow poisoning: liars who walk from their own behaviour to a target in a hundred small steps.

Every agent reports fresh events each cycle, drawn from its own behaviour: the fleet's series are built from what a
cycle added, never from lifetime counts. Before the walk the fleet is stationary for as long as an operator needs to pin
a reference (28 cycles, a week) and the detectors need to learn what is ordinary.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.estimators import Adwin, CusumBank, RankStandardiser, jensen_shannon_bias_nats, jensen_shannon_nats
from eguard.mlops.poison_bounds import max_liars
from eguard.mlops.poison_profiles import Cohort, KeyProfiles, resample_cohort
from eguard.mlops.poison_sweep import aggregates

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Divergences below this count as it: the logarithm needs a floor.
JS_FLOOR_NATS: Final = 1e-9
#: The operations manual's line, held against the divergence less its bias, in two consecutive cycles.
LEVEL_NATS: Final = 0.1
# A median of K votes carries 2/pi of the information of their mean.
_MEDIAN_EFFICIENCY: Final = 2.0 / np.pi
DETECTORS: Final = ("cusum_previous", "cusum_pinned", "adwin_pinned", "level_previous", "level_pinned")


@dataclass(frozen=True, slots=True)
class Timeline:
    """Cycles of a slow attack.

    Parameters
    ----------
    pinned_cycles : int
        Whose mean is the reference.
    learning_cycles : int
        Stationary ones after these, for the detectors to learn from and to be watched for false alarms.
    steps : int
        Equal steps of the walk.
    burn_in : int
        Values that a detector only learns from; at most `learning_cycles`.
    """

    pinned_cycles: int = 28
    learning_cycles: int = 200
    steps: int = 100
    burn_in: int = 30

    @property
    def cycles(self) -> int:
        """All cycles."""
        return self.pinned_cycles + self.learning_cycles + self.steps


@dataclass(frozen=True, slots=True)
class SlowRuns:
    """Slow attacks on many cohorts.

    Attributes
    ----------
    shares : tuple of float
        Shares of liars.
    published : ndarray of shape (n_shares, n_runs, n_cycles, 8)
        What the fleet published in each cycle; NaN where it did not.
    js_previous, js_pinned : ndarray of shape (n_shares, n_runs, n_watched)
        Divergence in nats of the cycles after the pinned ones; NaN where either side was not published.
    bias_nats : ndarray of shape (n_runs,)
        What two cycles of an unchanged fleet show.
    alarms : dict of str to ndarray of bool, shape (n_shares, n_runs, n_watched)
        By detector; ADWIN's only up to its first in the walk.
    """

    shares: tuple[float, ...]
    published: Floats
    js_previous: Floats
    js_pinned: Floats
    bias_nats: Floats
    alarms: dict[str, Mask]


def walk(
    profiles: Sequence[KeyProfiles],
    target: Floats,
    shares: Sequence[float],
    timeline: Timeline,
    *,
    n_agents: int,
    repetitions: int,
    rng: np.random.Generator,
) -> SlowRuns:
    """Run the attack on `repetitions` cohorts of every key, with every share of liars.

    Parameters
    ----------
    profiles : sequence of KeyProfiles
        Keys to resample cohorts of.
    target : ndarray of shape (8,)
        Distribution that the liars end at.
    shares : sequence of float
        Shares of liars; the same cohorts and honest events serve all of them.
    timeline : Timeline
        Cycles.
    n_agents, repetitions : int
        Agents a cohort, cohorts a key.
    rng : numpy.random.Generator
        Draws cohorts and events.
    """
    published, bias = [], []
    for key in profiles:
        for _ in range(repetitions):
            cohort = resample_cohort(key, n_agents, rng)
            runs = _run(cohort, target, shares, timeline, rng)
            published.append(runs)
            occupied = np.count_nonzero(np.nan_to_num(runs[0]).sum(axis=0))
            information = _MEDIAN_EFFICIENCY * n_agents * float(np.median(cohort.sample_counts))
            bias.append((occupied - 1) * float(jensen_shannon_bias_nats(information, information, d=2)))
    series = np.stack(published, axis=1)
    watched = series[:, :, timeline.pinned_cycles :]
    previous = _divergence(watched, series[:, :, timeline.pinned_cycles - 1 : -1])
    reference = _reference(series[:, :, : timeline.pinned_cycles])
    pinned = _divergence(watched, np.broadcast_to(reference[:, :, None], watched.shape))
    biases = np.array(bias)
    return SlowRuns(tuple(shares), series, previous, pinned, biases, _alarms(previous, pinned, biases, timeline))


def _run(
    cohort: Cohort, target: Floats, shares: Sequence[float], timeline: Timeline, rng: np.random.Generator
) -> Floats:
    """Return what one cohort publishes, shape (n_shares, n_cycles, 8)."""
    n_agents = len(cohort.sample_counts)
    events = np.broadcast_to(cohort.sample_counts[:, None], (n_agents, timeline.cycles))
    still = cohort.behaviours[:, None]
    honest = rng.multinomial(events, still) / events[..., None]
    most = max_liars(n_agents, max(shares))
    way = (np.arange(timeline.steps) + 1.0)[:, None] / timeline.steps
    walked = (1.0 - way) * still[:most] + way * target
    lies = rng.multinomial(events[:most, -timeline.steps :], walked) / events[:most, -timeline.steps :, None]
    runs = []
    for share in shares:
        n_liars = max_liars(n_agents, share)
        votes = honest.copy()
        votes[:n_liars, -timeline.steps :] = lies[:n_liars]
        runs.append(aggregates(votes, "trimmed_median"))
    return np.stack(runs)


def _reference(pinned: Floats) -> Floats:
    """Return the mean of the pinned generations that were published, shape (n_shares, n_runs, 8)."""
    known = np.isfinite(pinned[..., :1])
    count = known.sum(axis=2)
    total = np.where(known, pinned, 0.0).sum(axis=2)
    reference: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return reference


def _divergence(current: Floats, other: Floats) -> Floats:
    both = np.isfinite(current[..., 0]) & np.isfinite(other[..., 0])
    divergence = np.full(both.shape, np.nan)
    if both.any():
        divergence[both] = jensen_shannon_nats(current[both], other[both])
    return divergence


def _alarms(previous: Floats, pinned: Floats, bias: Floats, timeline: Timeline) -> dict[str, Mask]:
    excess = {"previous": previous - bias[:, None], "pinned": pinned - bias[:, None]}
    above = {name: np.nan_to_num(values, nan=0.0) > LEVEL_NATS for name, values in excess.items()}
    return {
        "cusum_previous": _cusum(previous, timeline.burn_in),
        "cusum_pinned": _cusum(pinned, timeline.burn_in),
        "adwin_pinned": _adwin(pinned, timeline),
        "level_previous": _twice(above["previous"]),
        "level_pinned": _twice(above["pinned"]),
    }


def _twice(above: Mask) -> Mask:
    twice = above.copy()
    twice[..., 1:] &= above[..., :-1]
    twice[..., 0] = False
    return twice


def _log(divergence: Floats) -> Floats:
    values: Floats = np.log(divergence + JS_FLOOR_NATS)
    return values


def _cusum(divergence: Floats, burn_in: int) -> Mask:
    """Alarm as the fleet's fast detector does: one-sided CUSUM, k .5, h 8, on log divergence."""
    series = _log(divergence).reshape(-1, divergence.shape[-1])
    bank = CusumBank(len(series), burn_in=burn_in)
    return np.stack([bank.update(values) for values in series.T], axis=-1).reshape(divergence.shape)


def _adwin(divergence: Floats, timeline: Timeline) -> Mask:
    """Alarm as the fleet's second detector does: ADWIN on the rank of log divergence.

    Before the walk all shares are one fleet, so that part is run once; after its first alarm a run is decided.
    """
    series = _log(divergence)
    alarms = np.zeros(series.shape, dtype=np.bool_)
    walk_begins = series.shape[-1] - timeline.steps
    for run in range(series.shape[1]):
        before = _AdwinChart(timeline.burn_in)
        alarms[:, run, :walk_begins] = [before.update(value) for value in series[0, run, :walk_begins].tolist()]
        for share in range(len(series)):
            chart = deepcopy(before)
            for cycle, value in enumerate(series[share, run, walk_begins:].tolist()):
                if chart.update(value):
                    alarms[share, run, walk_begins + cycle] = True
                    break
    return alarms


class _AdwinChart:
    """ADWIN and the ranks that it is fed; a cycle without a value passes it by."""

    def __init__(self, burn_in: int) -> None:
        self._rank, self._adwin = RankStandardiser(burn_in), Adwin()

    def update(self, value: float) -> bool:
        rank = self._rank.update(value) if np.isfinite(value) else None
        return rank is not None and self._adwin.update(rank)


def detection_rows(runs: SlowRuns, timeline: Timeline) -> list[dict[str, Any]]:
    """Return one row a share and detector: delay from the first step, share found, false alarms before it.

    The delay counts cycles from the first step (1) to the first alarm; a run that alarmed before is judged by its next.
    """
    rows = []
    for number, share in enumerate(runs.shares):
        for detector in DETECTORS:
            alarms = runs.alarms[detector][number]
            walking = alarms[:, -timeline.steps :]
            found = walking.any(axis=1)
            delays = walking.argmax(axis=1)[found] + 1
            quiet = alarms[:, timeline.burn_in : -timeline.steps]
            rows.append(
                {
                    "share": share,
                    "detector": detector,
                    "runs": len(alarms),
                    "found_fraction": float(found.mean()),
                    "delay_cycles_median": float(np.median(delays)) if found.any() else None,
                    "delay_cycles_quartiles": np.quantile(delays, [0.25, 0.75]).tolist() if found.any() else None,
                    "false_alarms": int(quiet.sum()),
                    "stationary_cycles": int(quiet.size),
                }
            )
    return rows


def series_rows(runs: SlowRuns, timeline: Timeline, clean: Floats) -> list[dict[str, Any]]:
    """Return one row a share and step: both divergences and the shift from `clean`, medians and quartiles over runs.

    Parameters
    ----------
    runs : SlowRuns
        The attacks.
    timeline : Timeline
        Their cycles.
    clean : ndarray of shape (n_runs, 8)
        What each cohort published before the walk.
    """
    shift = 0.5 * np.abs(runs.published[:, :, -timeline.steps :] - clean[:, None]).sum(axis=-1)
    measured = {
        "js_previous_nats": runs.js_previous[..., -timeline.steps :],
        "js_pinned_nats": runs.js_pinned[..., -timeline.steps :],
        "total_variation": shift,
    }
    rows = []
    for number, share in enumerate(runs.shares):
        quartiles = {
            name: np.nanquantile(values[number], [0.25, 0.5, 0.75], axis=0) for name, values in measured.items()
        }
        for step in range(timeline.steps):
            row: dict[str, Any] = {"share": share, "cycle": step + 1}
            for name, (low, middle, high) in quartiles.items():
                row |= {name: float(middle[step]), f"{name}_low": float(low[step]), f"{name}_high": float(high[step])}
            rows.append(row)
    return rows


def clean_reference(runs: SlowRuns, timeline: Timeline) -> Floats:
    """Return what each cohort published on average while its reference was pinned, shape (n_runs, 8)."""
    reference: Floats = _reference(runs.published[:1, :, : timeline.pinned_cycles])[0]
    return reference

"""Bootstrap intervals over hosts: rows of one host resemble one another, so hosts are drawn and not rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from eguard.mlops.metrics import Floats, Tally, all_metrics, equal_mass_bins, tally

CONFIDENCE: Final = 0.95
#: Cells of a block of resamplings; bounds memory at about 100 MiB.
_BLOCK_CELLS: Final = 3_000_000

Metrics = Callable[[Tally], Mapping[str, Floats]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its bootstrap replicates, so that averages over networks can be formed replicate by replicate.

    Parameters
    ----------
    value : float
        On the sample itself; NaN where the metric has no answer.
    replicates : ndarray of shape (n_replicates,)
        On resampled hosts; NaN where a draw gave no answer (no host with an attack, say).
    """

    value: float
    replicates: Floats

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % percentile interval over the replicates that have an answer; None if there is none."""
        answered = self.replicates[np.isfinite(self.replicates)]
        if not answered.size:
            return None
        tail = (1.0 - CONFIDENCE) / 2.0
        low, high = np.quantile(answered, [tail, 1.0 - tail])
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        """Return value and interval, null where there is none."""
        bounds = self.interval()
        return {
            "value": self.value if np.isfinite(self.value) else None,
            "interval": None if bounds is None else list(bounds),
        }


@dataclass(frozen=True, slots=True)
class HostSample:
    """Labelled, scored, weighted rows of hosts.

    Parameters
    ----------
    labels, scores, weights : ndarray of shape (n,)
        1 attack or 0 not; probabilities; rows that each stands for.
    hosts : ndarray of int, shape (n,)
        Which host each row is of; any integers.
    """

    labels: NDArray[np.int8]
    scores: Floats
    weights: Floats
    hosts: NDArray[np.intp]

    def take(self, rows: NDArray[Any]) -> HostSample:
        """Return the rows at an index or mask."""
        return HostSample(self.labels[rows], self.scores[rows], self.weights[rows], self.hosts[rows])

    def tally(self) -> Tally:
        """Return the tally of all rows."""
        return tally(self.labels, self.scores, self.weights)


def bootstrap_hosts(
    sample: HostSample, metrics: Metrics, rng: np.random.Generator, n_replicates: int
) -> dict[str, Estimate]:
    """Estimate metrics and their spread over hosts.

    Parameters
    ----------
    sample : HostSample
        The rows, at least one.
    metrics : callable
        Maps a `Tally`, whose leading axis is resamplings, to arrays by name.
    rng : numpy.random.Generator
        Draws hosts with replacement.
    n_replicates : int
        Resamplings; the same draws serve all metrics.

    Notes
    -----
    A replicate multiplies each host's rows by how often it was drawn, so one matrix product of draws and host tallies
    gives the tallies of all replicates. With few hosts (the shipped networks have 11 to 13) percentile intervals are
    too narrow rather than too wide, and a host that holds most of a network's attacks dominates them.

    References
    ----------
    A. Davison, D. Hinkley, Bootstrap Methods and their Application, Cambridge 1997, section 3.8 (hierarchical data).
    """
    counts = sample.tally()
    point = metrics(counts)
    host_ids, host = np.unique(sample.hosts, return_inverse=True)
    position = np.searchsorted(-counts.scores, -sample.scores)
    shape = (host_ids.size, counts.scores.size)
    is_attack = sample.labels == 1
    attacks = csr_array((sample.weights * is_attack, (host, position)), shape)
    others = csr_array((sample.weights * ~is_attack, (host, position)), shape)
    draws = rng.multinomial(host_ids.size, np.full(host_ids.size, 1.0 / host_ids.size), n_replicates)
    block = max(1, _BLOCK_CELLS // counts.scores.size)
    parts: dict[str, list[Floats]] = {name: [] for name in point}
    for start in range(0, n_replicates, block):
        drawn = draws[start : start + block].astype(np.float64)
        for name, values in metrics(Tally(counts.scores, drawn @ attacks, drawn @ others)).items():
            parts[name].append(values)
    empty: Floats = np.empty(0)
    return {name: Estimate(float(point[name]), np.concatenate([empty, *values])) for name, values in parts.items()}


def report_metrics(
    sample: HostSample, *, threshold: float, rng: np.random.Generator, n_replicates: int
) -> dict[str, Estimate]:
    """Return every metric of a report with its spread over hosts; none for a sample without rows."""
    if not len(sample.labels):
        return {}
    bins = equal_mass_bins(sample.tally())
    return bootstrap_hosts(
        sample, lambda counts: all_metrics(counts, threshold=threshold, bins=bins), rng, n_replicates
    )


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over independent samples (networks), replicate by replicate.

    Examples
    --------
    >>> mean_estimate([Estimate(0.2, np.array([0.1, 0.3])), Estimate(0.4, np.array([0.3, 0.5]))]).replicates.tolist()
    [0.2, 0.4]
    """
    return Estimate(
        float(np.mean([estimate.value for estimate in estimates])),
        np.mean([estimate.replicates for estimate in estimates], axis=0),
    )


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return `first` minus `second`, paired: both were drawn with the same hosts."""
    return Estimate(first.value - second.value, first.replicates - second.replicates)


def estimate_of(values: ArrayLike, replicates: ArrayLike) -> Estimate:
    """Return an estimate from plain numbers."""
    return Estimate(float(np.asarray(values)), np.asarray(replicates, np.float64))

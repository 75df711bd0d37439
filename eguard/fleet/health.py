"""Fleet health: how far a generation moved, from the previous one and from the pinned reference.

Comparing neighbours alone is blind to slow drift: a hundred small steps never alarm while the fleet ends up somewhere
else. So every generation is also compared with a reference that an operator pinned. Keys that exist on one side only
have no divergence; they are counted and named instead, or a growing fleet would alarm at every cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.estimators import jensen_shannon_bias_nats, jensen_shannon_nats

#: Keys listed by name at most, in each of the two lists; the counts are complete.
MAX_NAMED_KEYS: Final = 256
# A median of K votes carries 2/pi of the information of their mean (asymptotic relative efficiency at the Gaussian).
_MEDIAN_EFFICIENCY: Final = 2.0 / np.pi


class PublishedKey(NamedTuple):
    """What health needs to know of one published key."""

    distribution: NDArray[np.float64]
    agent_count: int
    voter_samples: int


@dataclass(frozen=True, slots=True)
class HealthComparison:
    """Jensen-Shannon divergence, in nats, between a generation and another one.

    Attributes
    ----------
    compared_with : str
        ``previous`` or ``reference``.
    other_generation : int
        The generation on the other side.
    common_keys : int
        Keys on both sides.
    js_mean_nats, js_mean_bias_nats : float or None
        Mean over common keys weighted by agent count, and the value expected with no change at all. None without a
        common key.
    js_max_nats, js_max_bias_nats : float or None
        The largest divergence of a key, and that key's bias.
    js_max_key : str or None
        That key; the first in order among equals.
    new_key_share : float
        Share of this generation's keys that the other one does not have.
    new_key_count, vanished_key_count : int
        Keys on one side only.
    new_keys, vanished_keys : tuple of str
        The first `MAX_NAMED_KEYS` of them in order.
    """

    compared_with: str
    other_generation: int
    common_keys: int
    js_mean_nats: float | None
    js_mean_bias_nats: float | None
    js_max_nats: float | None
    js_max_bias_nats: float | None
    js_max_key: str | None
    new_key_share: float
    new_key_count: int
    vanished_key_count: int
    new_keys: tuple[str, ...] = field(repr=False)
    vanished_keys: tuple[str, ...] = field(repr=False)

    @property
    def js_excess_nats(self) -> float | None:
        """Mean divergence beyond its bias, floored at 0: what the alert threshold is held against."""
        if self.js_mean_nats is None or self.js_mean_bias_nats is None:
            return None
        return max(0.0, self.js_mean_nats - self.js_mean_bias_nats)


def compare_generations(
    compared_with: str,
    other_generation: int,
    current: Mapping[str, PublishedKey],
    other: Mapping[str, PublishedKey],
) -> HealthComparison:
    """Compare the published keys of two generations.

    Notes
    -----
    The sample size behind a median is taken as 2/pi times its voters times their median sample count. Votes that are
    lifetime counts share most of their events with the previous cycle's, so the bias against the previous generation
    is an upper bound.
    """
    common, divergence, bias = key_divergences(current, other)
    new_keys = sorted(current.keys() - other.keys())
    vanished_keys = sorted(other.keys() - current.keys())
    mean = mean_bias = largest = largest_bias = largest_key = None
    if common:
        weight = np.array([current[key].agent_count for key in common], dtype=np.float64)
        weight /= weight.sum()
        top = int(np.argmax(divergence))
        mean, mean_bias = float(weight @ divergence), float(weight @ bias)
        largest, largest_bias, largest_key = float(divergence[top]), float(bias[top]), common[top]
    return HealthComparison(
        compared_with=compared_with,
        other_generation=other_generation,
        common_keys=len(common),
        js_mean_nats=mean,
        js_mean_bias_nats=mean_bias,
        js_max_nats=largest,
        js_max_bias_nats=largest_bias,
        js_max_key=largest_key,
        new_key_share=len(new_keys) / len(current) if current else 0.0,
        new_key_count=len(new_keys),
        vanished_key_count=len(vanished_keys),
        new_keys=tuple(new_keys[:MAX_NAMED_KEYS]),
        vanished_keys=tuple(vanished_keys[:MAX_NAMED_KEYS]),
    )


def key_divergences(
    current: Mapping[str, PublishedKey], other: Mapping[str, PublishedKey]
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return the keys on both sides in order, and the divergence and its bias of each, in nats."""
    common = sorted(current.keys() & other.keys())
    if not common:
        return common, np.zeros(0), np.zeros(0)
    p = np.array([current[key].distribution for key in common])
    q = np.array([other[key].distribution for key in common])
    divergence = np.asarray(jensen_shannon_nats(p, q))
    # The bias grows with the classes that occur on either side; those that never do add no noise.
    occupied = np.count_nonzero((p > 0.0) | (q > 0.0), axis=1)
    bias = (occupied - 1) * jensen_shannon_bias_nats(_information(current, common), _information(other, common), d=2)
    return common, divergence, bias


def _information(side: Mapping[str, PublishedKey], keys: list[str]) -> NDArray[np.float64]:
    events = np.array([side[key].agent_count * side[key].voter_samples for key in keys], dtype=np.float64)
    return np.maximum(_MEDIAN_EFFICIENCY * events, 1.0)

"""From the votes of one shard to its aggregates: pure arrays, no database.

Votes of all keys of a shard arrive end to end and go to the estimators in one call, so that these see a few large
arrays and not thousands of small ones. The result of a key does not depend on its company.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.errors import ConfigError
from eguard.estimators import aggregate_many, huber_location, kl_divergence_bits, trimmed_median
from eguard.fleet.voters import within_token_share

BELOW_COHORT: Final = "below_cohort"
BELOW_MIN_MASS: Final = "below_min_mass"


@dataclass(frozen=True, slots=True)
class AggregationRules:
    """Who votes, and what a key needs to be published.

    Parameters
    ----------
    min_agents : int
        Smallest cohort of a key.
    max_colluders : int
        F, the forged votes that a published key has to bear: its cohort has at least 2F + 1 agents.
    min_samples : int
        Events that an agent needs behind a profile to vote on it. More events never weigh more.
    min_mass : float
        Smallest sum of the coordinate-wise medians; below it the agents do not agree on anything worth publishing.
    alpha : float
        Share trimmed at each end. A symmetric trim leaves the median where it is.
    active_seconds : float
        Agents silent for longer have no vote.
    min_agent_age_seconds : float
        Agents heard from for less than this have no vote; see `eguard.fleet.voters.voter_conditions`.
    max_token_share : float
        Largest share of a key's votes that agents enrolled with one token have; see
        `eguard.fleet.voters.within_token_share`.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    min_agents: int = 3
    max_colluders: int = 1
    min_samples: int = 30
    min_mass: float = 0.5
    alpha: float = 0.05
    active_seconds: float = 7 * 86_400.0
    min_agent_age_seconds: float = 0.0
    max_token_share: float = 0.1

    def __post_init__(self) -> None:
        for name, is_valid, bound in (
            ("min_agents", self.min_agents >= 1, "at least 1"),
            ("max_colluders", self.max_colluders >= 0, "at least 0"),
            ("min_samples", self.min_samples >= 1, "at least 1"),
            ("min_mass", 0.0 < self.min_mass < 1.0, "within (0, 1)"),
            ("alpha", 0.0 < self.alpha < 0.5, "within (0, 0.5)"),
            ("active_seconds", self.active_seconds > 0.0, "positive"),
            ("min_agent_age_seconds", self.min_agent_age_seconds >= 0.0, "at least 0"),
            ("max_token_share", 0.0 < self.max_token_share <= 1.0, "within (0, 1]"),
        ):
            if not is_valid:
                raise ConfigError(f"{name} must be {bound}, got {getattr(self, name)}", parameter=name)

    @property
    def smallest_cohort(self) -> int:
        """Agents that have to vote on a key: max(min_agents, 2F + 1)."""
        return max(self.min_agents, 2 * self.max_colluders + 1)


class Votes(NamedTuple):
    """The votes of whole keys, end to end in key order; the votes of key i start at ``starts[i]``.

    Attributes
    ----------
    keys : list of str
    starts : ndarray of intp, shape (n_keys,)
    probabilities : ndarray of float64, shape (n_votes, 8)
    samples : ndarray of int64, shape (n_votes,)
    interarrival, payload : ndarray of float64, shape (n_votes,)
        Means on the log1p scale; NaN where an agent has none.
    tokens : ndarray of int64, shape (n_votes,), optional
        `eguard.fleet.voters.token_code` of each voter. Votes on one key come in the order of
        `eguard.fleet.voters.vote_rank`: of a token with too many the first stay.
    """

    keys: list[str]
    starts: NDArray[np.intp]
    probabilities: NDArray[np.float64]
    samples: NDArray[np.int64]
    interarrival: NDArray[np.float64]
    payload: NDArray[np.float64]
    tokens: NDArray[np.int64] | None = None


class Continuous(NamedTuple):
    """Location and scale of one continuous feature, in seconds or bytes, and the agents behind them."""

    location: float
    scale: float
    agent_count: int


class KeyAggregate(NamedTuple):
    """What the fleet agrees on for one key; the columns of `fleet_baseline`.

    `voter_samples` is the median of the voters' sample counts. Their sum would be at the mercy of one liar.
    """

    process_key: str
    distribution: NDArray[np.float64]
    agent_count: int
    voter_samples: int
    stddev_kl: float
    pre_norm_mass: float
    tolerated_faults: int
    interarrival: Continuous | None
    payload: Continuous | None


class KeyTally(NamedTuple):
    """The votes on one key: those that count, and those that do not, by reason; why it is withheld, if it is."""

    process_key: str
    votes: int
    votes_below_min_samples: int
    votes_beyond_token_share: int
    withheld: str | None


class ShardResult(NamedTuple):
    """Aggregates of the keys that are published, and the tally of every key, both in key order."""

    aggregates: list[KeyAggregate]
    tallies: list[KeyTally]

    @property
    def withheld(self) -> dict[str, str]:
        """The reason for every key that is not published."""
        return {tally.process_key: tally.withheld for tally in self.tallies if tally.withheld is not None}

    @property
    def votes_below_min_samples(self) -> int:
        """Votes with too few events behind them."""
        return sum(tally.votes_below_min_samples for tally in self.tallies)


def aggregate_votes(votes: Votes, rules: AggregationRules) -> ShardResult:
    """Aggregate every key of `votes` that has its cohort and its mass.

    Parameters
    ----------
    votes : Votes
        One vote an agent and key.
    rules : AggregationRules
        Thresholds.

    Notes
    -----
    The standard deviation of KL(voter || aggregate) is over voters, in bits, with the aggregate smoothed as counts of
    all events behind it. It grows with disagreement and is not robust on purpose: a forged vote shows in it.
    """
    ballots = _count(votes, rules)
    cohorts = _cohorts(votes, ballots, rules)
    if not cohorts.keys:
        return ShardResult([], _tallies(votes.keys, ballots, rules, frozenset()))
    offsets = np.append(cohorts.starts, len(cohorts.samples))
    fleet = aggregate_many(cohorts.probabilities, offsets, alpha=rules.alpha, min_mass=rules.min_mass)
    owner = np.repeat(np.arange(len(cohorts.keys)), fleet.n_agents)
    voter_samples = _median_by_key(cohorts.samples, owner)
    behind = np.where(fleet.published[:, None], fleet.distributions, 0.0) * (voter_samples * fleet.n_agents)[:, None]
    spread = _kl_spread(cohorts, owner, behind)
    interarrival = _huber_by_key(cohorts.interarrival, owner, rules.smallest_cohort)
    payload = _huber_by_key(cohorts.payload, owner, rules.smallest_cohort)
    aggregates = [
        KeyAggregate(
            process_key=key,
            distribution=fleet.distributions[at],
            agent_count=int(fleet.n_agents[at]),
            voter_samples=int(voter_samples[at]),
            stddev_kl=float(spread[at]),
            pre_norm_mass=float(fleet.mass[at]),
            tolerated_faults=int(fleet.tolerated_faults[at]),
            interarrival=interarrival.get(at),
            payload=payload.get(at),
        )
        for at, key in enumerate(cohorts.keys)
        if fleet.published[at]
    ]
    published = frozenset(aggregate.process_key for aggregate in aggregates)
    return ShardResult(aggregates, _tallies(votes.keys, ballots, rules, published))


class _Ballots(NamedTuple):
    """Which votes count, shape (n_votes,), and by key: those that do, and those that do not, by reason."""

    is_counted: NDArray[np.bool_]
    owner: NDArray[np.intp]
    counted: NDArray[np.intp]
    below_min_samples: NDArray[np.intp]
    beyond_token_share: NDArray[np.intp]


def _count(votes: Votes, rules: AggregationRules) -> _Ballots:
    n_keys = len(votes.keys)
    sizes = np.diff(votes.starts, append=len(votes.samples))
    owner = np.repeat(np.arange(n_keys), sizes)
    is_counted = votes.samples >= rules.min_samples
    enough = np.bincount(owner[is_counted], minlength=n_keys)
    if votes.tokens is not None:
        # Votes with too few events widen nobody's share.
        voting = np.flatnonzero(is_counted)
        starts = np.cumsum(enough) - enough
        is_counted[voting] = within_token_share(starts, votes.tokens[voting], rules.max_token_share)
    counted = np.bincount(owner[is_counted], minlength=n_keys)
    return _Ballots(is_counted, owner, counted, sizes - enough, enough - counted)


def _tallies(keys: list[str], ballots: _Ballots, rules: AggregationRules, published: frozenset[str]) -> list[KeyTally]:
    numbers = zip(
        ballots.counted.tolist(), ballots.below_min_samples.tolist(), ballots.beyond_token_share.tolist(), strict=True
    )
    tallies = []
    for key, (counted, below, beyond) in zip(keys, numbers, strict=True):
        withheld = None
        if key not in published:
            withheld = BELOW_COHORT if counted < rules.smallest_cohort else BELOW_MIN_MASS
        tallies.append(KeyTally(key, counted, below, beyond, withheld))
    return tallies


def _cohorts(votes: Votes, ballots: _Ballots, rules: AggregationRules) -> Votes:
    """Return the votes that count on keys with enough of them."""
    has_cohort = ballots.counted >= rules.smallest_cohort
    chosen = np.flatnonzero(ballots.is_counted & has_cohort[ballots.owner])
    sizes = ballots.counted[has_cohort]
    return Votes(
        keys=[votes.keys[i] for i in np.flatnonzero(has_cohort).tolist()],
        starts=np.cumsum(sizes) - sizes,
        probabilities=votes.probabilities[chosen],
        samples=votes.samples[chosen],
        interarrival=votes.interarrival[chosen],
        payload=votes.payload[chosen],
    )


def _kl_spread(votes: Votes, owner: NDArray[np.intp], behind: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation over voters of KL(voter || aggregate), shape (keys,), in bits."""
    divergence = kl_divergence_bits(votes.probabilities * votes.samples[:, None], behind[owner])
    voters = np.bincount(owner)
    mean = np.bincount(owner, divergence) / voters
    spread: NDArray[np.float64] = np.sqrt(np.bincount(owner, (divergence - mean[owner]) ** 2) / voters)
    return spread


def _by_size(owner: NDArray[np.intp], smallest: int = 1) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the keys of one number of voters, and the positions of their votes, shape (keys, voters)."""
    voters = np.bincount(owner, minlength=1)
    firsts = np.cumsum(voters) - voters
    for size in np.unique(voters[voters >= smallest]).tolist():
        members = np.flatnonzero(voters == size)
        yield members, firsts[members][:, None] + np.arange(size)


def _median_by_key(values: NDArray[np.int64], owner: NDArray[np.intp]) -> NDArray[np.float64]:
    medians = np.zeros(int(owner[-1]) + 1)
    for members, positions in _by_size(owner):
        medians[members] = trimmed_median(values[positions], axis=1)
    return medians


def _huber_by_key(
    log1p_means: NDArray[np.float64], owner: NDArray[np.intp], smallest_cohort: int
) -> dict[int, Continuous]:
    """Return location and scale by key, on the natural scale, where enough voters have the feature.

    The scale is carried over to first order, exp(location) * scale: seconds or bytes like the location.
    """
    known = np.flatnonzero(np.isfinite(log1p_means))
    values = log1p_means[known]
    found: dict[int, Continuous] = {}
    for members, positions in _by_size(owner[known], smallest_cohort):
        location, scale = huber_location(values[positions], axis=1)
        natural, spread = np.expm1(location), np.exp(location) * scale
        for at, i in enumerate(members.tolist()):
            found[i] = Continuous(float(natural[at]), float(spread[at]), positions.shape[1])
    return found

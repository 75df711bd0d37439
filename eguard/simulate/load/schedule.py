"""Who does what when: drawn from the seed before anything begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.simulate.load.options import LoadOptions

_SHORTEST_ABSENCE_SECONDS: Final = 1.0
_LONGEST_ABSENCE_SECONDS: Final = 10.0
#: Of those who leave, this share comes back with a new state folder.
_REBORN_SHARE: Final = 0.2


class Due(NamedTuple):
    """An agent, and when it is its turn in seconds after the phase began."""

    at_seconds: float
    number: int


class Absence(NamedTuple):
    """An agent leaves and comes back."""

    at_seconds: float
    number: int
    seconds: float
    is_reborn: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """All times of a run, each list in order.

    Attributes
    ----------
    starts : list of Due
        First connections of agents that stay.
    visits : list of Due
        Of agents that do not stay.
    absences : list of Absence
        During the hold.
    returns_seconds : ndarray of shape (agents,)
        When each agent of the herd comes back after the drop.
    """

    starts: list[Due]
    visits: list[Due]
    absences: list[Absence]
    returns_seconds: NDArray[np.float64]


def make_schedule(options: LoadOptions) -> Schedule:
    """Draw a schedule; the same options give the same.

    Examples
    --------
    >>> schedule = make_schedule(LoadOptions(agents=4, start_seconds=8.0))
    >>> [int(due.at_seconds // 2) for due in schedule.starts], sorted(due.number for due in schedule.starts)
    ([0, 1, 2, 3], [0, 1, 2, 3])
    """
    rng = np.random.default_rng([options.seed, 2])
    starts = _evenly(options.agents, options.start_seconds, rng)
    visits: list[Due] = []
    if not options.is_polling:
        first = _evenly(options.agents, options.interval_seconds, rng)
        rounds = int(options.hold_seconds // options.interval_seconds) + 1
        visits = [
            Due(due.at_seconds + turn * options.interval_seconds, due.number) for turn in range(rounds) for due in first
        ]
        visits = [due for due in visits if due.at_seconds < options.hold_seconds]
    return Schedule(
        starts if options.is_polling else [],
        visits,
        _absences(options, rng),
        rng.uniform(0.0, options.herd_seconds, options.agents),
    )


def _evenly(agents: int, seconds: float, rng: np.random.Generator) -> list[Due]:
    """Give each agent a moment in a slot of its own, in an order drawn at random."""
    slots = (np.arange(agents) + rng.uniform(size=agents)) * (seconds / agents)
    return [Due(at, number) for at, number in zip(slots.tolist(), rng.permutation(agents).tolist(), strict=True)]


def _absences(options: LoadOptions, rng: np.random.Generator) -> list[Absence]:
    mean = options.churn_per_minute * options.agents * options.hold_seconds / 60.0
    count = int(rng.poisson(mean))
    return [
        Absence(at, number, seconds, is_reborn)
        for at, number, seconds, is_reborn in zip(
            np.sort(rng.uniform(0.0, options.hold_seconds, count)).tolist(),
            rng.integers(options.agents, size=count).tolist(),
            rng.uniform(_SHORTEST_ABSENCE_SECONDS, _LONGEST_ABSENCE_SECONDS, count).tolist(),
            (rng.uniform(size=count) < _REBORN_SHARE).tolist(),
            strict=True,
        )
    ]

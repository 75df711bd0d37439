"""Synthetic beacons in real benign traffic: what a timer with jitter, lost beats and varying sizes leaves in a log.

Each channel belongs to a real host and lives through that host's recorded day, repeated where its period needs longer.
It calls a destination of its own, or hides behind one that the host also uses: then the beats lie among the real
requests of one of the host's pairs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from eguard.mlops.beacon_pairs import BeaconPairs
from eguard.mlops.beacon_scores import ScoredPairs

Floats = NDArray[np.float64]

DAY_SECONDS: Final = 86_400.0
#: Kinds of timer: a sleep shortened at random, whose jitter adds up, and a fixed schedule with random delays.
TIMERS: Final = ("sleep", "schedule")
#: No timer at all: contacts at random, as a control.
RANDOM: Final = "random"
#: Where the beats go: to a destination of their own, or to one that the host uses besides.
EMBEDDINGS: Final = ("own", "shared")
#: A host whose day is worth hiding in, and a pair worth hiding behind.
_MIN_HOST_CONTACTS: Final = 1000
_MIN_COVER_CONTACTS: Final = 5
_MAX_COVER_REGULARITY: Final = 0.7


class SweepParams(BaseModel):
    """Which synthetic channels are made: every combination, `replicates` times."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jitter_fractions: tuple[float, ...] = Field(
        default=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5), description="share of the period by which a beat may move"
    )
    missed_fractions: tuple[float, ...] = Field(
        default=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5), description="share of the beats that are lost"
    )
    periods_seconds: tuple[float, ...] = Field(
        default=(5.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0), description="periods; long ones need repeated days"
    )
    size_noise_fractions: tuple[float, ...] = Field(
        default=(0.0, 0.25, 1.0), description="half width of the uniform sizes, relative to their mean"
    )
    replicates: int = Field(default=1, ge=1, description="channels of each combination, timer and embedding")
    control_replicates: int = Field(
        default=20, ge=1, description="channels without a timer of each period, size noise and embedding, as a control"
    )
    min_expected_observations: int = Field(
        default=32, ge=1, description="days are repeated until so many beats are expected to arrive"
    )


@dataclass(frozen=True, slots=True)
class Background:
    """A benign day of several hosts, with the pairs that a channel may hide behind.

    Parameters
    ----------
    pairs : BeaconPairs
        Benign contacts of one network.
    cover_rows : list of ndarray of int
        For each usable host the rows of its cover pairs.
    start_seconds : float
        Unix time at which the day begins.
    """

    pairs: BeaconPairs
    cover_rows: list[NDArray[np.intp]]
    start_seconds: float

    @property
    def embeddings(self) -> tuple[str, ...]:
        """Where beats can go: to shared destinations only if there is a pair to hide behind."""
        return EMBEDDINGS if self.cover_rows else EMBEDDINGS[:1]


@dataclass(frozen=True, slots=True)
class SyntheticChannels:
    """Settings and observations of n channels; observations of channel i are ``[offsets[i]:offsets[i + 1]]``."""

    settings: dict[str, NDArray[Any]]
    days: NDArray[np.int64]
    offsets: NDArray[np.int64]
    times_seconds: Floats
    sizes_bytes: Floats


def background_of(scored: ScoredPairs) -> Background:
    """Return the hosts and pairs that channels may hide in: busy hosts, and pairs that are no timers themselves."""
    pairs, counts = scored.pairs, scored.pairs.n_observations
    is_cover = (counts >= _MIN_COVER_CONTACTS) & (scored.regularity.regularity < _MAX_COVER_REGULARITY)
    rows = []
    for host in np.unique(pairs.host).tolist():
        own = pairs.host == host
        if counts[own].sum() >= _MIN_HOST_CONTACTS and (own & is_cover).any():
            rows.append(np.flatnonzero(own & is_cover))
    return Background(pairs, rows, float(pairs.times_seconds.min()) if len(pairs) else 0.0)


def make_channels(params: SweepParams, background: Background, rng: np.random.Generator) -> SyntheticChannels:
    """Return every combination of the settings as channels.

    Parameters
    ----------
    params : SweepParams
        Settings.
    background : Background
        Hosts to hide in; each channel draws one.
    rng : numpy.random.Generator
        Draws hosts, covers, jitter, losses and sizes.
    """
    return _made(
        itertools.product(
            params.jitter_fractions,
            params.missed_fractions,
            params.periods_seconds,
            params.size_noise_fractions,
            TIMERS,
            background.embeddings,
            range(params.replicates),
        ),
        params,
        background,
        rng,
    )


def make_controls(params: SweepParams, background: Background, rng: np.random.Generator) -> SyntheticChannels:
    """Return channels that call as often as beacons do, but at random times: to pass a threshold is no success."""
    settings = ((0.0,), (0.0,), params.periods_seconds, params.size_noise_fractions, (RANDOM,), background.embeddings)
    return _made(itertools.product(*settings, range(params.control_replicates)), params, background, rng)


def _made(
    settings: Iterable[tuple[Any, ...]], params: SweepParams, background: Background, rng: np.random.Generator
) -> SyntheticChannels:
    combinations = list(settings)
    times, sizes, days = [], [], []
    for jitter, missed, period, noise, timer, embedding, _ in combinations:
        needed = params.min_expected_observations * period / (1.0 - missed)
        n_days = max(1, math.ceil(needed / DAY_SECONDS))
        beats = beat_times(period, jitter=jitter, missed=missed, horizon=n_days * DAY_SECONDS, timer=timer, rng=rng)
        beat_sizes = _beat_sizes(len(beats), noise, rng)
        if embedding == "shared":
            beats, beat_sizes = _hide(beats, beat_sizes, background, n_days, rng)
        times.append(background.start_seconds + beats)
        sizes.append(beat_sizes)
        days.append(n_days)
    names = ("jitter", "missed", "period_seconds", "size_noise", "timer", "embedding")
    columns = list(zip(*combinations, strict=True))
    return SyntheticChannels(
        {name: np.array(column) for name, column in zip(names, columns, strict=False)},
        np.array(days, np.int64),
        np.concatenate([[0], np.cumsum([len(part) for part in times])]).astype(np.int64),
        np.concatenate(times),
        np.concatenate(sizes),
    )


def beat_times(
    period: float, *, jitter: float, missed: float, horizon: float, timer: str, rng: np.random.Generator
) -> Floats:
    """Return when a beacon's beats arrive within [0, horizon), rising, in milliseconds' resolution.

    Parameters
    ----------
    period : float
        Seconds.
    jitter : float
        Share of the period in [0, 1). A ``sleep`` lasts T (1 - U(0, jitter)); a ``schedule`` beats at k T +
        U(-jitter/2, jitter/2) T.
    missed : float
        Share of the beats that do not arrive, each on its own, in [0, 1).
    horizon : float
        Seconds.
    timer : {"sleep", "schedule", "random"}
        Whether jitter adds up; "random" has no timer.
    rng : numpy.random.Generator
        Draws.
    """
    n = math.ceil(horizon / (period * (1.0 - jitter))) + 1
    if timer == RANDOM:
        beats = np.cumsum(rng.exponential(period, n))
    elif timer == "sleep":
        beats = np.cumsum(period * (1.0 - jitter * rng.random(n)))
    else:
        beats = np.sort(period * (np.arange(n) + 0.5 + jitter * (rng.random(n) - 0.5)))
    arrived = beats[(beats < horizon) & (rng.random(n) >= missed)]
    return np.asarray(np.round(arrived, 3), np.float64)


def tile_days(pairs: BeaconPairs, n_days: int) -> BeaconPairs:
    """Return pairs whose observations are repeated on `n_days` days in a row."""
    counts = pairs.n_observations
    position = np.concatenate(
        [np.empty(0, np.int64)]
        + [np.tile(np.arange(begin, end), n_days) for begin, end in itertools.pairwise(pairs.offsets.tolist())]
    )
    day = np.concatenate([np.empty(0, np.int64)] + [np.repeat(np.arange(n_days), count) for count in counts])
    return BeaconPairs(
        pairs.groups,
        pairs.hosts,
        pairs.destinations,
        pairs.group,
        pairs.host,
        pairs.destination,
        pairs.offsets * n_days,
        pairs.times_seconds[position] + DAY_SECONDS * day,
        pairs.sent_bytes[position],
        pairs.received_bytes[position],
        pairs.durations_seconds[position],
        pairs.excluded,
    )


def _beat_sizes(n: int, noise: float, rng: np.random.Generator) -> Floats:
    """Return sizes around a mean between 60 and 2,000 bytes that the channel draws."""
    mean = math.exp(rng.uniform(math.log(60.0), math.log(2000.0)))
    return np.asarray(np.round(mean * (1.0 + noise * rng.uniform(-1.0, 1.0, n))), np.float64)


def _hide(
    beats: Floats, sizes: Floats, background: Background, n_days: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Lay the beats among the requests of one real pair of a real host."""
    rows = background.cover_rows[int(rng.integers(len(background.cover_rows)))]
    row = int(rows[rng.integers(len(rows))])
    span = slice(background.pairs.offsets[row], background.pairs.offsets[row + 1])
    day = background.pairs.times_seconds[span] - background.start_seconds
    cover = (day + DAY_SECONDS * np.arange(n_days)[:, None]).ravel()
    merged = np.concatenate([beats, cover])
    order = np.argsort(merged, kind="stable")
    return merged[order], np.concatenate([sizes, np.tile(background.pairs.sent_bytes[span], n_days)])[order]

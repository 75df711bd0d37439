"""What the simulated agents upload: profiles resampled from real hosts, encoded once and put together at sending time.

For every process key of the recording a number of variants is drawn, as `eguard.mlops.poison_profiles` resamples
hosts, and encoded as rows of the wire. An agent takes a sample of the keys, those that more real hosts have more often,
and each of its uploads another variant of each: so every row differs from what is stored, as that of a host that went
on working. A liar's variants are the votes of an attack on the honest ones. Inter-arrival times and payloads, which the
tally of a recording does not hold, are drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from eguard.mlops.poison_attacks import attack_named
from eguard.mlops.poison_profiles import KeyProfiles, read_profiles, resample_cohort
from eguard.simulate.load.options import LoadOptions
from eguard.wire.baseline import (
    BaselineRow,
    ContinuousMoments,
    Moments,
    decode_baseline_batch,
    entropy_threshold,
)
from eguard.wire.distribution import distribution_from_vector
from eguard.wire.fleet import FleetRow

#: Variants of every row.
VARIANTS: Final = 32
_STEP: Final = 7  # between an agent's keys, so that not all are at the same variant
_LEARNED_UNIX: Final = 1_772_000_000.0
_CHUNK: Final = 1000

Floats = NDArray[np.float64]
Rows = list[list[bytes]]  # by key, by variant, up to where the sequence number goes


@dataclass(frozen=True, slots=True)
class UploadBodies:
    """Bodies for every agent and upload.

    Attributes
    ----------
    honest, lies : lists of lists of bytes
        Encoded rows by key and variant, without the sequence number at their end.
    keys : ndarray of uint16, shape (agents, profiles)
        Which keys each agent has.
    first_variant : ndarray of uint8, shape (agents,)
        Of each agent's first upload.
    is_liar : ndarray of bool, shape (agents,)
    seeds : list of FleetRow
        What the fleet agrees on, for a server that has no generation of its own yet.
    """

    honest: Rows
    lies: Rows
    keys: NDArray[np.uint16]
    first_variant: NDArray[np.uint8]
    is_liar: NDArray[np.bool_]
    seeds: list[FleetRow]

    def upload(self, number: int, agent_id: str, sequence: int) -> bytes:
        """Return an agent's upload; the first has sequence number 1."""
        rows = self.lies if self.is_liar[number] else self.honest
        start = int(self.first_variant[number]) + sequence
        chosen = [rows[key][(start + _STEP * place) % VARIANTS] for place, key in enumerate(self.keys[number].tolist())]
        head = b'{"agent_id":"%b","batch_id":"%d","baselines":[' % (agent_id.encode(), sequence)
        return head + (b"%d}," % sequence).join(chosen) + b"%d}]}" % sequence


def make_bodies(options: LoadOptions) -> UploadBodies:
    """Read the recording and draw everything that depends on the seed.

    Raises
    ------
    ConfigError
        There are no profiles.
    """
    found = sorted(read_profiles(options.recording, min_hosts=1), key=lambda key: key.process_key)
    rng = np.random.default_rng([options.seed, 1])
    honest: Rows = []
    lies: Rows = []
    for profiles in found:
        cohort = resample_cohort(profiles, VARIANTS, rng)
        samples = cohort.sample_counts.tolist()
        honest.append(_rows(profiles.process_key, cohort.votes, samples, rng))
        if options.poison:
            lies.append(_rows(profiles.process_key, _lies(cohort.votes, options, rng), samples, rng))
    is_liar = np.zeros(options.agents, np.bool_)
    is_liar[rng.choice(options.agents, options.liars, replace=False)] = True
    bodies = UploadBodies(
        honest,
        lies,
        _chosen_keys(found, options, rng),
        rng.integers(VARIANTS, size=options.agents, dtype=np.uint8),
        is_liar,
        [_seed(profiles) for profiles in found],
    )
    for rows in (honest, lies):
        _check(rows)
    return bodies


def _rows(process_key: str, votes: Floats, samples: list[int], rng: np.random.Generator) -> list[bytes]:
    rows = []
    for vote, count in zip(votes, samples, strict=True):
        row = BaselineRow(
            process_key=process_key,
            event_distribution=distribution_from_vector(vote),
            sample_count=count,
            entropy_threshold=entropy_threshold(count),
            learned_at_unix=_LEARNED_UNIX,
            seq=1,
            continuous=ContinuousMoments(
                interarrival=_moments(count - 1, rng.uniform(0.1, 6.0)), payload=_moments(count, rng.uniform(4.0, 9.0))
            ),
        )
        fields = msgspec.to_builtins(row)
        del fields["seq"]
        rows.append(msgspec.json.encode(fields)[:-1] + b',"seq":')
    return rows


def _moments(count: int, mean: float) -> Moments | None:
    return Moments(count=count, mean=round(mean, 6), m2=round(0.4 * max(count - 1, 0), 6)) if count else None


def _lies(honest: Floats, options: LoadOptions, rng: np.random.Generator) -> Floats:
    """Return the votes of liars that know as many honest votes as there are variants, repeated to that number."""
    attack = attack_named(options.poison)
    liars = max(1, round(VARIANTS * options.share / (1.0 - options.share)))
    votes = attack(honest, liars, rng)
    return np.tile(votes, (math.ceil(VARIANTS / liars), 1))[:VARIANTS]


def _chosen_keys(found: list[KeyProfiles], options: LoadOptions, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Draw keys without replacement, a key of twice the hosts twice as likely (Gumbel's largest)."""
    size = min(options.profiles, len(found))
    weights = np.log([len(profiles.hosts) for profiles in found])
    parts = []
    for start in range(0, options.agents, _CHUNK):
        count = min(_CHUNK, options.agents - start)
        noise = rng.gumbel(size=(count, len(found))) + weights
        parts.append(np.sort(np.argpartition(noise, -size, axis=1)[:, -size:], axis=1).astype(np.uint16))
    return np.concatenate(parts)


def _seed(profiles: KeyProfiles) -> FleetRow:
    shares = profiles.shares.mean(axis=0)
    hosts = len(profiles.hosts)
    return FleetRow(
        process_key=profiles.process_key,
        median_distribution=distribution_from_vector(shares / shares.sum()),
        agent_count=hosts,
        stddev_kl=0.1,
        tolerated_faults=(hosts - 1) // 2,
        source="import",
    )


def _check(rows: Rows) -> None:
    """Read everything back under the server's rules, so that a refusal is the server's doing."""
    for variant in range(VARIANTS if rows else 0):
        chosen = [variants[variant] + b"1}" for variants in rows]
        decode_baseline_batch(b'{"agent_id":"a","batch_id":"b","baselines":[' + b",".join(chosen) + b"]}")

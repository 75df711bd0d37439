"""Five attacks on the fleet of a running server: certificates, uploads, aggregations and seeds over mutual TLS.

Every agent enrols and uploads what an honest one has learned. For each share of liars, these are quarantined first:
what the server then publishes is what the honest agents alone agree on. Released again they upload the votes of one
attack after another, under rising sequence numbers, and an honest agent fetches what all agents would be seeded with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.seed import priors_from_rows
from eguard.errors import ConfigError
from eguard.events import N_EVENT_CLASSES
from eguard.fleet.kernel import AggregationRules
from eguard.mlops.poison_attacks import ATTACKS, PoisonAttack, attack_named
from eguard.mlops.poison_bounds import max_liars, shift_bound
from eguard.mlops.poison_profiles import SHIPPED_PROFILES, Cohort, choose_key, read_profiles, resample_cohort
from eguard.simulate.http_fleet import HttpFleet
from eguard.simulate.poison import ALL_ATTACKS, worst_lies
from eguard.simulate.poisoned_fleet import forged_row, learned_rows
from eguard.wire.distribution import vector_from_distribution
from eguard.wire.process_key import decode_process_key

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]

#: The shares of liars of the table in ``docs/explanation/poison-bounds.md``, without its last.
SHARES: Final = (0.05, 0.10, 0.20, 0.30, 0.40)
#: That table's honest agents: Dirichlet of this concentration around classes of which each is half as frequent.
CONCENTRATION: Final = 60.0
#: The process key of agents that are no hosts.
DIRICHLET_KEY: Final = "dirichlet:table"
_DIRICHLET_EVENTS: Final = 100_000
# The wire's rows are float32 in the store.
_TOLERANCE: Final = 1e-6
_REASON: Final = "simulated attack"


@dataclass(frozen=True, slots=True)
class HttpPoisonSettings:
    """One campaign.

    Parameters
    ----------
    shares : tuple of float
        Shares of the agents that lie, each in (0, 0.5).
    attack : str
        A name of `eguard.mlops.poison_attacks.ATTACKS`, or ``all``.
    agents : int
        Agents of the fleet, liars included.
    is_dirichlet : bool
        Whether the honest agents are those of the documented table, in the place of real hosts.
    profiles, process_key, min_hosts, seed
        As of `eguard.simulate.poison.PoisonSettings`.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    shares: tuple[float, ...] = SHARES
    attack: str = ALL_ATTACKS
    agents: int = 200
    is_dirichlet: bool = False
    profiles: Path = SHIPPED_PROFILES
    process_key: str | None = None
    min_hosts: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.shares or not all(0.0 < share < 0.5 for share in self.shares):
            raise ConfigError(
                f"shares of liars must lie in (0, 0.5), got {self.shares}",
                remedy="From one half on the liars are the majority, and no rule that counts votes can tell.",
                parameter="share",
            )
        if self.attack != ALL_ATTACKS:
            attack_named(self.attack)
        smallest = AggregationRules().smallest_cohort
        liars = [max_liars(self.agents, share) for share in self.shares]
        if min(liars) < 1 or self.agents - max(liars) < smallest:
            raise ConfigError(
                f"{self.agents} agents are too few for shares of {self.shares}: one liar and {smallest} honest agents "
                "are needed for each",
                remedy="Raise --agents.",
                parameter="agents",
            )

    @property
    def attacks(self) -> list[PoisonAttack]:
        """The attacks that are run."""
        return list(ATTACKS.values()) if self.attack == ALL_ATTACKS else [attack_named(self.attack)]


@dataclass(frozen=True, slots=True)
class Target:
    """The attacked key, the agents that vote on it, and how many real hosts they take after (0 for none)."""

    process_key: str
    cohort: Cohort
    real_hosts: int


def choose_target(settings: HttpPoisonSettings, rng: np.random.Generator, progress: Progress | None = None) -> Target:
    """Return who votes on what.

    Raises
    ------
    ConfigError
        There are no profiles or too few hosts.
    """
    if settings.is_dirichlet:
        mean = 0.5 ** np.arange(N_EVENT_CLASSES)
        behaviours = rng.dirichlet(CONCENTRATION * mean / mean.sum(), size=settings.agents)
        events = np.full(settings.agents, _DIRICHLET_EVENTS, dtype=np.int64)
        return Target(DIRICHLET_KEY, Cohort(behaviours, events, rng.multinomial(events, behaviours)), 0)
    key = choose_key(
        read_profiles(settings.profiles, min_hosts=settings.min_hosts, progress=progress), settings.process_key
    )
    return Target(key.process_key, resample_cohort(key, settings.agents, rng), len(key.hosts))


@dataclass(frozen=True, slots=True)
class _Published:
    """What a generation says about the key: its distribution, and the prior that an agent makes of it."""

    generation: int
    distribution: Floats | None
    prior: Floats | None
    agent_count: int
    tolerated_faults: int
    withheld_because: str | None


class Campaign:
    """Attacks on one key of one fleet.

    Parameters
    ----------
    fleet : HttpFleet
        As many enrolled agents as the cohort has; the last ones lie.
    target : Target
    rng : numpy.random.Generator
        For attacks that scatter their votes.
    """

    def __init__(self, fleet: HttpFleet, target: Target, rng: np.random.Generator) -> None:
        self._fleet, self._target, self._rng = fleet, target, rng
        self._agents = list(fleet.agents.values())
        self._seq = 1

    def upload_honestly(self, progress: Progress | None = None) -> None:
        """Have every agent upload what it has learned."""
        for done, (agent, counts) in enumerate(zip(self._agents, self._target.cohort.counts, strict=True)):
            rows = learned_rows(self._target.process_key, counts, time.time())
            self._seq = max(self._seq, *(row.seq for row in rows))
            agent.upload(rows)
            if progress is not None:
                progress("agents upload", done + 1, len(self._agents))

    def attack(
        self, share: float, attacks: list[PoisonAttack], progress: Progress | None = None
    ) -> list[dict[str, Any]]:
        """Attack with a share of the agents; return one row an attack.

        The liars of earlier calls have to lie in this one too: give shares in rising order.
        """
        liars = self._agents[len(self._agents) - max_liars(len(self._agents), share) :]
        honest = self._target.cohort.votes[: len(self._agents) - len(liars)]
        for liar in liars:
            self._fleet.quarantine(liar.agent_id, _REASON)
        clean = self._publish()
        for liar in liars:
            self._fleet.release(liar.agent_id, _REASON)
        rows = []
        for done, attack in enumerate(attacks):
            lies = worst_lies(honest, attack, len(liars), self._rng)
            self._lie(lies)
            outcome = _outcome(honest, lies, clean, self._publish())
            rows.append({"share": share, "liars": len(lies), "attack": attack.name} | outcome)
            if progress is not None:
                progress(f"{share:.0%} of the agents lie", done + 1, len(attacks))
        return rows

    def _lie(self, lies: Floats) -> None:
        self._seq += 1
        samples = self._target.cohort.sample_counts[-len(lies) :].tolist()
        for liar, vote, events in zip(self._agents[-len(lies) :], lies, samples, strict=True):
            liar.upload([forged_row(self._target.process_key, vote, events, seq=self._seq, now=time.time())])

    def _publish(self) -> _Published:
        """Have a generation made, and return what an honest agent is then sent."""
        report = self._fleet.aggregate()
        generation, rows = self._agents[0].seeds()
        row = rows.get(self._target.process_key)
        if row is None:
            return _Published(generation, None, None, 0, 0, next(iter(report["skipped_by_reason"]), "no_votes"))
        return _Published(
            generation,
            vector_from_distribution(row.median_distribution),
            priors_from_rows([row])[decode_process_key(row.process_key)],
            row.agent_count,
            row.tolerated_faults,
            None,
        )


def _outcome(honest: Floats, lies: Floats, clean: _Published, poisoned: _Published) -> dict[str, Any]:
    moved = _total_variation(clean.distribution, poisoned.distribution)
    bound = shift_bound(honest, len(lies), "trimmed_median")
    with_lies = np.vstack([honest, lies])
    return {
        "generation": poisoned.generation,
        "clean_generation": clean.generation,
        "agent_count": poisoned.agent_count,
        "tolerated_faults": poisoned.tolerated_faults,
        "withheld_because": poisoned.withheld_because,
        "total_variation": moved,
        "seed_total_variation": _total_variation(clean.prior, poisoned.prior),
        "bound_total_variation": bound,
        "mean_total_variation": _total_variation(with_lies.mean(axis=0), honest.mean(axis=0)),
        "within_bound": (moved or 0.0) <= bound + _TOLERANCE,
    }


def _total_variation(p: Floats | None, q: Floats | None) -> float | None:
    return None if p is None or q is None else 0.5 * float(np.abs(p - q).sum())

"""`eguard simulate poison`: liars in a fleet of real host profiles, through the real wire, store and aggregation.

Honest agents are resampled from real hosts; each keeps a `ProfileTable`, packs its uploads as an agent does, and the
server's side reads the bodies, stores the rows in SQLite and aggregates. The first generation is that of the honest
agents alone, and is pinned. Then the liars enrol, craft rows that the wire accepts, and everything after is what a
server would see. Honest agents have nothing new to say meanwhile, so whatever moves is the attack.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.clock import SimulatedClock
from eguard.errors import ConfigError
from eguard.fleet.aggregation import AggregationReport
from eguard.fleet.kernel import AggregationRules
from eguard.fleet.store import FleetStore
from eguard.mlops.poison_attacks import ATTACKS, PoisonAttack, attack_named
from eguard.mlops.poison_bounds import Aggregator, clean_aggregate, max_liars, shift_bound
from eguard.mlops.poison_profiles import (
    SHIPPED_PROFILES,
    Cohort,
    KeyProfiles,
    choose_key,
    read_profiles,
    resample_cohort,
)
from eguard.mlops.poison_slow import LEVEL_NATS
from eguard.mlops.poison_sweep import aggregates
from eguard.simulate.poisoned_fleet import Outcome, PoisonedFleet
from eguard.wire.distribution import CLASS_NAMES

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]

#: Every attack, one after the other.
ALL_ATTACKS: Final = "all"
_START_UNIX: Final = 1_700_000_000.0
# A vote within this of the bound is at it: the wire's rows are float32 in the store.
_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class PoisonSettings:
    """One simulation.

    Parameters
    ----------
    share : float
        Share of the agents that lie, in (0, 0.5).
    attack : str
        A name of `eguard.mlops.poison_attacks.ATTACKS`, or ``all``.
    agents : int
        Agents of the fleet, liars included.
    cycles : int
        Aggregations over which liars walk, in equal steps, from ordinary votes to the attack's; 1 is at once.
    aggregator : str
        What aggregates the votes; the fleet's own is ``trimmed_median``.
    profiles : Path
        Log or fleet store with the real hosts.
    process_key : str, optional
        The key that is attacked; the one with the most hosts by default.
    min_hosts : int
        Real hosts that the key needs.
    seed : int
        Of cohort and attack.

    Raises
    ------
    ConfigError
        A value is out of range, or share and agents leave no liar or too few honest agents.
    """

    share: float
    attack: str = "lie"
    agents: int = 50
    cycles: int = 1
    aggregator: Aggregator = "trimmed_median"
    profiles: Path = SHIPPED_PROFILES
    process_key: str | None = None
    min_hosts: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 0.5:
            raise ConfigError(
                f"the share of liars must lie in (0, 0.5), got {self.share:g}",
                remedy="From one half on the liars are the majority, and no rule that counts votes can tell.",
                parameter="share",
            )
        if self.attack != ALL_ATTACKS:
            attack_named(self.attack)
        for name, value, least in (
            ("cycles", self.cycles, 1),
            ("min_hosts", self.min_hosts, 2),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}", parameter=name)
        smallest = AggregationRules().smallest_cohort
        if self.agents - self.liars < smallest or self.liars < 1:
            raise ConfigError(
                f"{self.agents} agents at a share of {self.share:g} are {self.liars} liars and "
                f"{self.agents - self.liars} honest ones; one liar and {smallest} honest agents are needed",
                remedy="Raise --agents or change --share.",
                parameter="agents",
            )

    @property
    def liars(self) -> int:
        """Number of liars: rounded, and never half of the agents."""
        return max_liars(self.agents, self.share)

    @property
    def attacks(self) -> list[PoisonAttack]:
        """The attacks that are run."""
        return list(ATTACKS.values()) if self.attack == ALL_ATTACKS else [attack_named(self.attack)]


def simulate_poison(settings: PoisonSettings, *, progress: Progress | None = None) -> dict[str, Any]:
    """Run the simulation and return what was published with and without the liars.

    Returns
    -------
    dict
        JSON values: the settings, the cohort, one entry an attack, and whether every shift stayed within its bound.

    Raises
    ------
    ConfigError
        There are no profiles or too few hosts, or the honest agents alone agree on too little to publish.
    """
    profiles = read_profiles(settings.profiles, min_hosts=settings.min_hosts, progress=progress)
    key = choose_key(profiles, settings.process_key)
    rng = np.random.default_rng(settings.seed)
    cohort = resample_cohort(key, settings.agents, rng)
    if clean_aggregate(cohort.votes[: settings.agents - settings.liars], settings.aggregator) is None:
        raise ConfigError(
            f"the honest agents agree on too little about {key.process_key} for anything to be published",
            remedy="Choose another --key, more --agents or another --seed.",
            process_key=key.process_key,
        )
    results = [_attacked(settings, key, cohort, attack, rng=rng, progress=progress) for attack in settings.attacks]
    return {
        "settings": {**asdict(settings), "profiles": str(settings.profiles)},
        "process_key": key.process_key,
        "real_hosts": len(key.hosts),
        "other_keys": [other.process_key for other in profiles if other is not key],
        "agents": settings.agents,
        "liars": settings.liars,
        "attacks": results,
        "within_bound": all(result["verdict"]["within_bound"] for result in results),
    }


def _attacked(
    settings: PoisonSettings,
    key: KeyProfiles,
    cohort: Cohort,
    attack: PoisonAttack,
    *,
    rng: np.random.Generator,
    progress: Progress | None,
) -> dict[str, Any]:
    honest = cohort.votes[: settings.agents - settings.liars]
    lies = worst_lies(honest, attack, settings.liars, rng, settings.aggregator)
    ordinary = cohort.votes[len(honest) :]
    with tempfile.TemporaryDirectory(prefix="eguard-poison-") as folder:
        clock = SimulatedClock(_START_UNIX)
        with FleetStore.create(f"sqlite:///{Path(folder) / 'fleet.db'}", clock) as store:
            fleet = PoisonedFleet(store, clock, key.process_key)
            for agent, counts in enumerate(cohort.counts[: len(honest)]):
                fleet.upload_counts(f"agent-{agent:04d}", counts)
            before = fleet.aggregate()
            clean = fleet.published(settings.aggregator, honest)
            series = []
            for cycle in range(1, settings.cycles + 1):
                way = cycle / settings.cycles
                votes = (1.0 - way) * ordinary + way * lies
                for liar, vote in enumerate(votes):
                    samples = int(cohort.sample_counts[len(honest) + liar])
                    fleet.upload_vote(f"liar-{liar:04d}", vote, samples, seq=cycle)
                report = fleet.aggregate()
                outcome = fleet.published(settings.aggregator, np.vstack([honest, votes]))
                series.append(_cycle(cycle, report, clean, outcome))
                if progress is not None:
                    progress(attack.name, cycle, settings.cycles)
            return _result(
                settings, attack, honest, lies,
                outcomes=(clean, outcome), reports=(before, report), series=series,
            )  # fmt: skip


def worst_lies(
    honest: Floats,
    attack: PoisonAttack,
    liars: int,
    rng: np.random.Generator,
    aggregator: Aggregator = "trimmed_median",
) -> Floats:
    """Return the liars' votes in the published direction that moves the aggregate furthest, shape (liars, 8)."""
    tried = attack(honest, liars, rng, attack.published(honest))
    stacked = np.stack([np.vstack([honest, lies]) for lies in tried], axis=1)
    clean = aggregates(honest[:, None], aggregator)
    moved = np.abs(aggregates(stacked, aggregator) - clean).sum(axis=1)
    # Where the key is no longer published nothing is moved.
    worst: Floats = tried[int(np.where(np.isfinite(moved), moved, -1.0).argmax())]
    return worst


def _cycle(cycle: int, report: AggregationReport, clean: Outcome, outcome: Outcome) -> dict[str, Any]:
    """Return one cycle as the server's health sees it, and the shift that it cannot see."""
    found: dict[str, Any] = {"cycle": cycle, "total_variation": clean.total_variation(outcome)}
    for name in ("previous", "reference"):
        comparison = report.against(name)
        found[f"js_{name}_nats"] = None if comparison is None else comparison.js_mean_nats
        found[f"js_{name}_excess_nats"] = None if comparison is None else comparison.js_excess_nats
    return found


def _result(
    settings: PoisonSettings,
    attack: PoisonAttack,
    honest: Floats,
    lies: Floats,
    *,
    outcomes: tuple[Outcome, Outcome],
    reports: tuple[AggregationReport, AggregationReport],
    series: list[dict[str, Any]],
) -> dict[str, Any]:
    clean, poisoned = outcomes
    bound = shift_bound(honest, len(lies), settings.aggregator, clean.distribution)
    moved = clean.total_variation(poisoned)
    furthest = max((entry["total_variation"] or 0.0 for entry in series), default=0.0)
    mean_moved = 0.5 * float(np.abs(np.vstack([honest, lies]).mean(axis=0) - honest.mean(axis=0)).sum())
    before, after = reports
    return {
        "attack": attack.name,
        "title": attack.title,
        "source": attack.source._asdict(),
        "clean": _outcome(clean, before),
        "poisoned": _outcome(poisoned, after),
        "total_variation": moved,
        "js_nats": clean.js_nats(poisoned),
        "bound_total_variation": bound,
        "mean_total_variation": mean_moved,
        "cycles": series,
        "verdict": {"within_bound": furthest <= bound + _TOLERANCE, **_verdict(moved, mean_moved, series, settings)},
    }


def _outcome(outcome: Outcome, report: AggregationReport) -> dict[str, Any]:
    distribution = outcome.distribution
    return {
        "generation": report.generation,
        "votes": report.votes,
        "published": distribution is not None,
        "withheld_because": None if distribution is not None else next(iter(report.skipped), "no_votes"),
        "distribution": None if distribution is None else dict(zip(CLASS_NAMES, distribution.tolist(), strict=True)),
        "mass": outcome.mass,
        "tolerated_faults": outcome.tolerated_faults,
    }


def _verdict(
    moved: float | None, mean_moved: float, series: Sequence[dict[str, Any]], settings: PoisonSettings
) -> dict[str, Any]:
    alarms = {
        name: _first_alarm([entry[f"js_{name}_excess_nats"] for entry in series]) for name in ("previous", "reference")
    }
    if moved is None:
        sentence = "The key is withheld: the liars silence it and steer nothing."
    elif settings.aggregator == "mean":
        sentence = "The mean follows the liars in proportion to their number."
    elif moved > mean_moved:
        sentence = "Bounded, and yet further than the same votes move the plain mean: a bound, no promise to be better."
    else:
        sentence = "Bounded, and less than the same votes move the plain mean."
    return {
        "moved_more_than_mean": moved is not None and moved > mean_moved,
        "level_alarm_cycle_previous": alarms["previous"],
        "level_alarm_cycle_reference": alarms["reference"],
        "sentence": sentence,
    }


def _first_alarm(excess: Sequence[float | None]) -> int | None:
    """Return the first cycle that ends two in a row above the alert level."""
    above = [value is not None and value > LEVEL_NATS for value in excess]
    return next((cycle + 1 for cycle in range(1, len(above)) if above[cycle] and above[cycle - 1]), None)

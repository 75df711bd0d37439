"""Stage `poisoning`: how far liars move what the fleet publishes, on cohorts resampled from real hosts.

``reports/poisoning.json`` holds the five attacks against four aggregators beside what theory allows, the slow attack
with its detection delays, what a poisoned seed hides from a new agent, and facts of the rule.
``reports/plots/poison-sweep.json`` and ``poison-slow.json`` are the series to plot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from eguard.mlops.poison_attacks import ATTACKS
from eguard.mlops.poison_bounds import AGGREGATORS, max_liars
from eguard.mlops.poison_prior import DELTA_MEDIUM, MIXTURES, WINDOW_EVENTS, hidden_by
from eguard.mlops.poison_profiles import SHIPPED_PROFILES, KeyProfiles, choose_key, read_profiles, resample_cohort
from eguard.mlops.poison_rules import sample_count_inflation, small_cohorts, sybil
from eguard.mlops.poison_slow import (
    LEVEL_NATS,
    SlowRuns,
    Timeline,
    clean_reference,
    detection_rows,
    series_rows,
    walk,
)
from eguard.mlops.poison_sweep import key_rows, mean_with_interval, median_against_mean, sweep_cohorts, sweep_rows
from eguard.mlops.workspace import Workspace, write_report
from eguard.wire.distribution import CLASS_NAMES, ClassName, vector_from_distribution

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
PLOTS_FOLDER: Final = "plots-poisoning"

#: An implant under another process's name: it talks to its server, looks up names, reads files.
IMPLANT: Final[dict[ClassName, float]] = {"network_connect": 0.7, "dns_query": 0.2, "file_open": 0.1}
_RULES: Final[dict[str, Any]] = {"min_agents": 3, "max_colluders": 1, "min_samples": 30, "min_mass": 0.5}


class PoisoningParams(BaseModel):
    """Cohorts that are attacked, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profiles: str = Field(
        default=str(SHIPPED_PROFILES), description="host profiles: a log or a fleet store, below the project's root"
    )
    min_hosts: int = Field(default=9, ge=2, description="real hosts that a process key needs to be resampled from")
    cohorts: tuple[int, ...] = Field(default=(20, 50, 200), description="agents of a cohort, liars included")
    shares: tuple[float, ...] = Field(
        default=(0.0, 0.05, 0.10, 0.20, 0.30, 0.40, 0.49), description="shares of liars, each below one half"
    )
    repetitions: int = Field(default=4, ge=2, description="cohorts drawn for each key and size")
    slow_agents: int = Field(default=50, ge=3, description="agents of a cohort in the slow attack")
    slow_steps: int = Field(default=100, ge=2, description="cycles, equal steps, from honest behaviour to the target")
    slow_repetitions: int = Field(default=10, ge=1, description="cohorts of each key in the slow attack")
    target: dict[ClassName, float] = Field(
        default=IMPLANT, description="distribution that slow liars end at: the behaviour they want to hide"
    )
    prior_key: str = Field(
        default="svchost.exe:services.exe", description="process key whose poisoned seed is handed to a new agent"
    )
    prior_local_events: tuple[int, ...] = Field(
        default=(0, 30, 100, 300, 1000), description="own events that the new agent has learned"
    )
    prior_windows: int = Field(default=500, ge=50, description="windows drawn for each share of the implant's events")

    @model_validator(mode="after")
    def _check(self) -> PoisoningParams:
        if not self.shares or min(self.shares) < 0.0 or max(self.shares) >= 0.5:
            raise ValueError("shares must lie in [0, 0.5)")
        if self.shares[0] != 0.0:
            raise ValueError("the first of shares must be 0, the fleet without liars")
        if not self.cohorts or min(self.cohorts) < 3:
            raise ValueError("cohorts must have three agents or more")
        if abs(sum(self.target.values()) - 1.0) > 1e-9 or min(self.target.values()) < 0.0:
            raise ValueError("target must be a distribution: not negative, summing to 1")
        return self


def run(
    params: PoisoningParams, *, seed: int, workspace: Workspace, progress: Progress | None = None
) -> dict[str, Any]:
    """Attack the cohorts, write the report and its series.

    Parameters
    ----------
    params : PoisoningParams
        Cohorts, shares, repetitions.
    seed : int
        Of every cohort, attack and window.
    workspace : Workspace
        Where raw data lie and reports go.
    progress : callable, optional
        Told the part, how much is done, and of how much.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    ConfigError
        There are no profiles, or no key has enough hosts.
    """
    profiles = read_profiles(workspace.root / params.profiles, min_hosts=params.min_hosts, progress=progress)
    rngs = np.random.default_rng(seed).spawn(len(params.cohorts) + 3)
    report: dict[str, Any] = {
        "profiles": _profiles_section(params, profiles),
        "rules": _RULES,
        "attacks": {
            name: {"title": attack.title, "source": attack.source._asdict()} for name, attack in ATTACKS.items()
        },
        "aggregators": list(AGGREGATORS),
    }
    report |= _sweeps(params, profiles, rngs, progress)
    slow_rng, prior_rng, rules_rng = rngs[-3:]
    if progress is not None:
        progress("slow poisoning", 0, 1)
    timeline = Timeline(steps=params.slow_steps)
    target = vector_from_distribution(params.target)
    runs = walk(
        profiles, target, params.shares, timeline,
        n_agents=params.slow_agents, repetitions=params.slow_repetitions, rng=slow_rng,
    )  # fmt: skip
    slow = series_rows(runs, timeline, clean_reference(runs, timeline))
    report["slow"] = _slow_section(params, timeline, runs)
    report["prior"] = _prior_section(params, profiles, timeline, runs, prior_rng)
    report["facts"] = _facts_section(params, profiles[0], rules_rng)
    if progress is not None:
        progress("slow poisoning", 1, 1)
    write_report(workspace.reports / "poisoning.json", report)
    write_report(workspace.reports / PLOTS_FOLDER / "sweep.json", _plot_rows(report["sweep"]))
    write_report(workspace.reports / PLOTS_FOLDER / "slow.json", slow)
    return report


def _profiles_section(params: PoisoningParams, profiles: Sequence[KeyProfiles]) -> dict[str, Any]:
    return {
        "source": params.profiles,
        "resampling": (
            "an agent takes after a real host drawn with replacement, with its number of events: "
            "behaviour from a Dirichlet with the host's counts, events from that behaviour"
        ),
        "keys": [
            {
                "process_key": key.process_key,
                "hosts": len(key.hosts),
                "events_median": float(np.median(key.counts.sum(axis=1))),
                "spread_total_variation": _spread(key.shares),
            }
            for key in profiles
        ],
    }


def _spread(shares: Floats) -> float:
    """Return the median over hosts of the total variation to the mean host: how much real hosts differ."""
    return float(np.median(0.5 * np.abs(shares - shares.mean(axis=0)).sum(axis=1)))


def _sweeps(
    params: PoisoningParams,
    profiles: Sequence[KeyProfiles],
    rngs: Sequence[np.random.Generator],
    progress: Progress | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {"sweep": [], "by_key": [], "median_against_mean": []}
    for done, (n_agents, rng) in enumerate(zip(params.cohorts, rngs, strict=False)):
        if progress is not None:
            progress("cohorts attacked", done, len(params.cohorts))
        sweep = sweep_cohorts(profiles, n_agents, params.shares, params.repetitions, rng)
        found["sweep"] += sweep_rows(sweep)
        found["by_key"] += key_rows(sweep)
        found["median_against_mean"] += median_against_mean(sweep)
    if progress is not None:
        progress("cohorts attacked", len(params.cohorts), len(params.cohorts))
    return found


def _slow_section(params: PoisoningParams, timeline: Timeline, runs: SlowRuns) -> dict[str, Any]:
    last = runs.published[:, :, -1]
    moved = 0.5 * np.abs(last - clean_reference(runs, timeline)).sum(axis=-1)
    walking_previous = runs.js_previous[..., -timeline.steps :] - runs.bias_nats[:, None]
    walking_pinned = runs.js_pinned[..., -timeline.steps :] - runs.bias_nats[:, None]
    return {
        "n_agents": params.slow_agents,
        "runs_a_share": runs.published.shape[1],
        "steps": timeline.steps,
        "pinned_cycles": timeline.pinned_cycles,
        "stationary_cycles": timeline.learning_cycles,
        "burn_in_cycles": timeline.burn_in,
        "target": {name: params.target.get(name, 0.0) for name in CLASS_NAMES},
        "level_nats": LEVEL_NATS,
        "detection": detection_rows(runs, timeline),
        "end": [
            {
                "share": share,
                "n_liars": max_liars(params.slow_agents, share),
                "total_variation": mean_with_interval(moved[row]),
                "js_previous_excess_max_nats": float(np.nanmax(walking_previous[row])),
                "js_pinned_excess_max_nats": float(np.nanmax(walking_pinned[row])),
                "published_fraction": float(np.isfinite(runs.published[row, :, -timeline.steps :, 0]).mean()),
            }
            for row, share in enumerate(runs.shares)
        ],
    }


def _prior_section(
    params: PoisoningParams,
    profiles: Sequence[KeyProfiles],
    timeline: Timeline,
    runs: SlowRuns,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Hand the seed of the last cycle, averaged over the key's cohorts, to a new agent."""
    chosen = choose_key(profiles, params.prior_key)
    number = [key.process_key for key in profiles].index(chosen.process_key)
    mine = slice(number * params.slow_repetitions, (number + 1) * params.slow_repetitions)
    clean = clean_reference(runs, timeline)[mine].mean(axis=0)
    target = vector_from_distribution(params.target)
    shares = []
    for row, share in enumerate(runs.shares):
        ends = runs.published[row, mine, -1]
        known = ends[np.isfinite(ends[:, 0])]
        if not len(known):
            continue
        poisoned = known.mean(axis=0)
        rows = hidden_by(
            clean, poisoned, target, local_events=params.prior_local_events, windows=params.prior_windows, rng=rng
        )
        shares.append({"share": share, "published": poisoned.tolist(), "windows": rows})
    return {
        "process_key": chosen.process_key,
        "clean": clean.tolist(),
        "window_events": WINDOW_EVENTS,
        "delta": DELTA_MEDIUM,
        "mixtures": list(MIXTURES),
        "shares": shares,
    }


def _facts_section(params: PoisoningParams, key: KeyProfiles, rng: np.random.Generator) -> dict[str, Any]:
    cohort = resample_cohort(key, params.slow_agents, rng)
    rarest = np.eye(cohort.votes.shape[1])[cohort.votes.mean(axis=0).argmin()]
    n_liars = max_liars(params.slow_agents, 0.1)
    return {
        "sample_count_inflation": sample_count_inflation(cohort.votes, cohort.sample_counts, rarest, n_liars),
        "sybil": sybil(cohort.votes, rarest),
        "small_cohorts": small_cohorts(_RULES["min_agents"], _RULES["max_colluders"]),
    }


def _plot_rows(sweep: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for row in sweep:
        figure = row["total_variation"]
        low, high = figure["interval"] or (None, None)
        plain = {
            name: row[name]
            for name in ("n_agents", "share", "attack", "aggregator", "bound", "is_within_bound", "published_fraction")
        }
        rows.append(plain | {"total_variation": figure["value"], "low": low, "high": high})
    return rows

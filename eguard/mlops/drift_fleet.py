"""The fleet's generations over the simulated nights: what is published, and how far it moved.

The replay compares every generation with the one before and with the first that published anything. That first one
may hold a single profile; so the generations are compared anew with a *grown* reference, the first that publishes half
as many profiles as the last does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eguard.errors import ConfigError
from eguard.fleet.generations import KEEP_GENERATIONS
from eguard.fleet.health import PublishedKey, compare_generations
from eguard.fleet.store import FleetStore
from eguard.wire.distribution import vector_from_distribution
from eguard.wire.process_key import decode_process_key


def fleet_report(path: Path, level_nats: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what became of a fleet over its generations: figures, and the profiles and generations behind them.

    Parameters
    ----------
    path : Path
        ``fleet.db`` as the replay wrote it; it is only read.
    level_nats : float
        Excess of the mean divergence above which, in two generations running, a fleet drifts (operations manual 9).

    Raises
    ------
    ConfigError
        There is no such file.
    FleetStoreError
        It is no fleet database.
    """
    if not path.exists():
        raise ConfigError(f"there is no fleet database at {path}", remedy="Run the replay stage.", path=str(path))
    with FleetStore(f"sqlite:///{path}") as store:
        last = store.current_generation()
        history = {number: _published(store, number) for number in range(max(1, last - KEEP_GENERATIONS), last + 1)}
        profiles = store.fleet_details() if last else []
        recorded = store.health_history()
    reference = grown_reference({number: len(keys) for number, keys in history.items()})
    generations = [_generation(number, history, recorded, reference) for number in sorted(history)]
    latest = generations[-1] if generations else {}
    figures = {
        "generations": last,
        "published_keys": latest.get("keys", 0),
        "pinned_generation": reference,
        "level_nats": level_nats,
        "series": {
            name: {
                "last_excess_nats": latest.get(f"{name}_excess_nats"),
                "common_keys": latest.get(f"{name}_common_keys", 0),
                "alarms": level_alarms(
                    {row["generation"]: row[f"{name}_excess_nats"] for row in generations}, level_nats
                ),
            }
            for name in ("previous", "first", "pinned")
        },
    }
    return figures, {"profiles": [_profile(row) for row in profiles], "generations": generations}


def grown_reference(key_counts: Mapping[int, int]) -> int | None:
    """Return the first generation with at least half as many keys as the last; None if that has none.

    Examples
    --------
    >>> grown_reference({1: 0, 2: 1, 3: 3, 4: 5, 5: 6})
    3
    """
    last = key_counts[max(key_counts)] if key_counts else 0
    return min((number for number, keys in key_counts.items() if 2 * keys >= last), default=None) if last else None


def level_alarms(excess: Mapping[int, float | None], level_nats: float) -> list[int]:
    """Return the generations in which the excess is above the level for the second time running.

    Examples
    --------
    >>> level_alarms({1: None, 2: 0.2, 3: 0.2, 4: 0.2, 5: 0.0, 6: 0.2}, 0.1)
    [3, 4]
    """
    above = {number for number, value in excess.items() if value is not None and value > level_nats}
    return sorted(number for number in above if number - 1 in above)


def _published(store: FleetStore, generation: int) -> dict[str, PublishedKey]:
    return {
        row["process_key"]: PublishedKey(
            vector_from_distribution(row["median_distribution"]), row["agent_count"], row["voter_samples"]
        )
        for row in store.fleet_details(generation)
    }


def _generation(
    number: int, history: dict[int, dict[str, PublishedKey]], recorded: list[dict[str, Any]], reference: int | None
) -> dict[str, Any]:
    own = {row["compared_with"]: row for row in recorded if row["generation"] == number}
    row: dict[str, Any] = {
        "generation": number,
        "keys": len(history[number]),
        "new_keys": len(history[number].keys() - history.get(number - 1, {}).keys()),
        "vanished_keys": len(history.get(number - 1, {}).keys() - history[number].keys()),
    }
    for name, compared in (("previous", "previous"), ("first", "reference")):
        health = own.get(compared, {})
        row[f"{name}_excess_nats"] = _excess(health.get("js_mean"), health.get("js_mean_bias"))
        row[f"{name}_common_keys"] = health.get("common_keys", 0)
    row["pinned_excess_nats"], row["pinned_common_keys"], row["pinned_largest_key"] = None, 0, None
    if reference is not None and number > reference:
        against = compare_generations("reference", reference, history[number], history[reference])
        row["pinned_excess_nats"] = _excess(against.js_mean_nats, against.js_mean_bias_nats)
        row["pinned_common_keys"] = against.common_keys
        row["pinned_largest_key"] = against.js_max_key
    return row


def _excess(mean: float | None, bias: float | None) -> float | None:
    return None if mean is None or bias is None else max(0.0, mean - bias)


def _profile(row: dict[str, Any]) -> dict[str, Any]:
    image, parent = decode_process_key(row["process_key"])
    return {
        "image": image,
        "parent": parent,
        "distribution": vector_from_distribution(row["median_distribution"]).tolist(),
        "agents": row["agent_count"],
        "samples": row["voter_samples"],
        "mass": row["pre_norm_mass"],
        "tolerated_faults": row["tolerated_faults"],
        "stddev_kl_bits": row["stddev_kl"],
    }

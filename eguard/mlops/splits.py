"""Honest splits: what is held out for good, and the folds of cross-validation.

Units (`eguard.mlops.dataset`) are never divided: no host, and with three sites or more no network, is on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eguard.errors import ConfigError
from eguard.mlops.corpus_selection import LIVE_SOURCE
from eguard.mlops.dataset import Dataset
from eguard.mlops.sampling import hash_ranks

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Holdout:
    """What is scored once and what may be trained on.

    Parameters
    ----------
    held_out, training : ndarray of bool, shape (n,)
        Disjoint; rows in neither are on the wrong side in time.
    units : tuple of str
        Names of the units held out.
    start_unix : mapping of str to float
        By source: every training row of it was observed before this time, every held-out row at it or later.
    main_source : str
        The source of most held-out rows.
    fraction : float
        Held-out share of all rows.
    """

    held_out: Mask
    training: Mask
    units: tuple[str, ...]
    start_unix: dict[str, float]
    main_source: str
    fraction: float

    def to_json(self) -> dict[str, Any]:
        """Return what a report says of the split."""
        return {
            "units": list(self.units),
            "start_unix": self.start_unix.get(self.main_source),
            "start_unix_by_source": self.start_unix,
            "rows": int(self.held_out.sum()),
            "training_rows": int(self.training.sum()),
            "fraction": self.fraction,
            "rows_in_neither": int((~self.held_out & ~self.training).sum()),
        }


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold: rows scored by a model fitted to other units. Folds with equal `training` share that model."""

    name: str
    training: Mask
    validation: Mask


def plan_holdout(data: Dataset, fraction: float) -> Holdout:
    """Hold out the latest units of each source, at least `fraction` of its rows.

    Units are taken by the time of their first row, latest first; a source keeps one unit to train on. Rows of its other
    units that were observed after its first held-out row are left out of training, so that the holdout is a later time
    as well as unseen hosts. Sources were recorded years apart, and no calendar between them means anything.

    Live rows are divided by unit alone, the same units every night: hosts of one fleet are observed at once, and what
    an analyst said today of one that is trained on must count tonight.

    Single hosts of one network all begin alike; there the last `fraction` of time is held out of every other host
    (by name), and the rest of those hosts is not used.

    Raises
    ------
    ConfigError
        A side would be empty or hold one label only.
    """
    if data.names.units == data.names.hosts and not np.all(data.sources == LIVE_SOURCE):
        return _hosts_and_time(data, fraction)
    held_out, training = np.zeros(len(data), np.bool_), np.zeros(len(data), np.bool_)
    start_unix: dict[str, float] = {}
    for source in np.unique(data.sources).tolist():
        of_source = data.sources == source
        if source == LIVE_SOURCE:
            judged = of_source & _live_judges(data, of_source, fraction)
            held_out |= judged
            training |= of_source
            continue
        latest = of_source & _latest_units(data, of_source, fraction)
        if latest.any():
            start_unix[source] = float(data.time_unix[latest].min())
        held_out |= latest
        training |= of_source & ~latest & (data.time_unix < start_unix.get(source, np.inf))
    is_judging = np.zeros(len(data.names.units), np.bool_)
    is_judging[data.units[held_out]] = True
    training &= ~is_judging[data.units]
    return _checked(data, held_out, training, start_unix)


def _latest_units(data: Dataset, rows: Mask, fraction: float) -> Mask:
    """Return which rows are of the latest units that together hold `fraction` of `rows`, never of all units."""
    units, position, size = np.unique(data.units[rows], return_inverse=True, return_counts=True)
    first = np.full(len(units), np.inf)
    np.minimum.at(first, position, data.time_unix[rows])
    chosen = np.zeros(len(data.names.units), np.bool_)
    n_held = 0
    for place in np.lexsort((units, -first))[: len(units) - 1].tolist():
        chosen[units[place]] = True
        n_held += int(size[place])
        if n_held >= fraction * rows.sum():
            break
    latest: Mask = chosen[data.units]
    return latest


def _live_judges(data: Dataset, rows: Mask, fraction: float) -> Mask:
    """Return which rows are of the units that judge live models: by the hash of their names, never all of them."""
    units = np.unique(data.units[rows])
    rank = hash_ranks([data.names.units[unit] for unit in units.tolist()])
    size = np.bincount(data.units[rows], minlength=len(data.names.units))
    chosen = np.zeros(len(data.names.units), np.bool_)
    n_held = 0
    for place in np.argsort(rank)[: len(units) - 1].tolist():
        if n_held >= fraction * rows.sum():
            break
        chosen[units[place]] = True
        n_held += int(size[units[place]])
    judges: Mask = chosen[data.units]
    return judges


def _hosts_and_time(data: Dataset, fraction: float) -> Holdout:
    start = float(np.quantile(data.time_unix, 1.0 - fraction))
    is_chosen = data.hosts % 2 == 1
    late = data.time_unix >= start
    sources = np.unique(data.sources).tolist()
    return _checked(data, is_chosen & late, ~is_chosen & ~late, dict.fromkeys(sources, start))


def _checked(data: Dataset, held_out: Mask, training: Mask, start_unix: dict[str, float]) -> Holdout:
    for side, rows in (("holdout", held_out), ("training set", training)):
        if len(set(data.labels[rows].tolist()) & {0, 1}) < 2:
            raise ConfigError(
                f"the {side} would have {int(rows.sum())} rows and not both labels",
                remedy="Adjudicate more signals, on more hosts and over a longer time.",
            )
    units = tuple(data.names.units[unit] for unit in np.unique(data.units[held_out]))
    sources, rows_of_source = np.unique(data.sources[held_out], return_counts=True)
    main_source = str(sources[np.argmax(rows_of_source)])
    return Holdout(held_out, training, units, start_unix, main_source, float(held_out.mean()))


def plan_folds(data: Dataset, training: Mask, n_folds: int) -> list[Fold]:
    """Divide the training rows into `n_folds` folds whose models have seen none of their units.

    With at least as many units as folds, units are packed into folds of similar size. With fewer, the hosts of the
    largest units are divided between folds, and each is still scored by a model without the *whole* unit.

    Raises
    ------
    ConfigError
        There are too few units or hosts.
    """
    present, size = np.unique(data.units[training], return_counts=True)
    if len(present) < 2:
        raise ConfigError("cross-validation needs at least two units (networks, or hosts of one network)")
    if len(present) >= n_folds:
        groups = _pack(size, n_folds)
        members = [np.isin(data.units, present[groups == fold]) & training for fold in range(n_folds)]
        return [Fold(_fold_name(data, rows), training & ~rows, rows) for rows in members]
    parts = np.ones(len(present), np.intp)
    while parts.sum() < n_folds:
        parts[np.argmax(size / parts)] += 1
    folds = []
    for unit, n_parts in zip(present.tolist(), parts.tolist(), strict=True):
        of_unit = training & (data.units == unit)
        hosts, rows_by_host = np.unique(data.hosts[of_unit], return_counts=True)
        if len(hosts) < n_parts:
            raise ConfigError(
                f"{data.names.units[unit]} has {len(hosts)} hosts, too few for {n_parts} folds",
                remedy="Lower train.cv_folds (not below 5) or adjudicate signals of more hosts.",
            )
        groups = _pack(rows_by_host, n_parts)
        for part in range(n_parts):
            rows = of_unit & np.isin(data.hosts, hosts[groups == part])
            folds.append(Fold(_fold_name(data, rows), training & ~of_unit, rows))
    return folds


def _pack(size: NDArray[np.intp], n_bins: int) -> NDArray[np.intp]:
    """Put items into bins of similar total size: largest first, into the emptiest bin."""
    bins = np.zeros(len(size), np.intp)
    load = np.zeros(n_bins)
    for item in np.lexsort((np.arange(len(size)), -size)):
        bins[item] = np.argmin(load)
        load[bins[item]] += size[item]
    return bins


def _fold_name(data: Dataset, rows: Mask) -> str:
    units = [data.names.units[unit] for unit in np.unique(data.units[rows])]
    hosts = len(np.unique(data.hosts[rows]))
    shown = ", ".join(units[:3]) + (f" and {len(units) - 3} more" if len(units) > 3 else "")
    return f"{shown} ({hosts} hosts)"

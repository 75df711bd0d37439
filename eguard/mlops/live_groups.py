"""Which part of the fleet is left out in turn when a model is judged on live data: groups of agents, or of hosts."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from eguard.mlops.corpus_selection import LIVE_SOURCE
from eguard.mlops.dataset import Dataset

#: Host groups that take turns, at most, and the attacks that each needs for a figure to mean something.
MAX_GROUPS: Final = 5
MIN_GROUP_ATTACKS: Final = 10


def grouped(data: Dataset, min_network_attacks: int) -> tuple[Dataset, str, int]:
    """Return the rows with larger units for live rows, what these are, and the attacks that each has at least.

    The operators' groups are the units where two of them have attacks enough: ``networks``. Else the hosts with
    verdicts are packed into up to five groups with about as many attacks each: ``hosts``. Units that live rows share
    with shipped ones stay as they are.
    """
    is_live = data.sources == LIVE_SOURCE
    attacks = is_live & (data.labels == 1) & ~data.is_flood
    by_network = np.bincount(data.networks[attacks], minlength=len(data.names.networks))
    n_units = len(data.names.units)
    is_shared = np.zeros(n_units, np.bool_)
    is_shared[data.units[~is_live]] = True
    apart = is_live & ~is_shared[data.units]
    if np.count_nonzero(by_network >= min_network_attacks) > 1:
        units = np.where(apart, n_units + data.networks, data.units)
        return _with_units(data, units, (*data.names.units, *data.names.networks)), "networks", min_network_attacks
    by_host = np.bincount(data.hosts[attacks & apart], minlength=len(data.names.hosts))
    n_groups = min(MAX_GROUPS, int(np.count_nonzero(by_host)), int(by_host.sum()) // MIN_GROUP_ATTACKS)
    if n_groups < 2:
        return data, "hosts", MIN_GROUP_ATTACKS
    group = np.zeros(len(data.names.hosts), np.intp)
    load = np.zeros(n_groups)
    for place, host in enumerate(np.argsort(-by_host, kind="stable").tolist()):
        group[host] = np.argmin(load) if by_host[host] else place % n_groups
        load[group[host]] += by_host[host]
    names = tuple(f"hosts {number} of {n_groups}" for number in range(1, n_groups + 1))
    return (
        _with_units(data, np.where(apart, n_units + group[data.hosts], data.units), (*data.names.units, *names)),
        "hosts",
        1,
    )


def _with_units(data: Dataset, units: np.typing.NDArray[np.intp], names: tuple[str, ...]) -> Dataset:
    present, codes = np.unique(units, return_inverse=True)
    vocabulary = replace(data.names, units=tuple(names[unit] for unit in present.tolist()))
    return replace(data, units=codes, names=vocabulary)

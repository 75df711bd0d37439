"""The corpus as arrays, and who is independent of whom: hosts, networks and the units that folds never share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.errors import ConfigError
from eguard.events import UNCOUNTED, EventClass
from eguard.mlops.corpus_selection import LIVE_SOURCE
from eguard.mlops.sampling import hash_ranks, stratified_sample

#: Label of a row that nobody has adjudicated.
UNRESOLVED: Final = -1
#: From this many sites on, whole sites are left out; below, single hosts.
MIN_SITES: Final = 3
#: Rows that each network, rule and label keeps when a corpus is sampled down.
_MIN_STRATUM_ROWS: Final = 40
_CLASS_OF_NAME: Final = {member.name.lower(): member.value for member in EventClass}

Codes = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Names behind the codes of a dataset."""

    hosts: tuple[str, ...]
    networks: tuple[str, ...]
    rules: tuple[str, ...]
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """n signals as columns.

    Parameters
    ----------
    features : ndarray of shape (n, 43)
        Feature rows; columns 7 and 41 are not filled yet.
    labels : ndarray of int8, shape (n,)
        1 attack, 0 not, -1 unresolved.
    weights : ndarray of shape (n,)
        Signals that each row stands for.
    time_unix, adjudicated_unix, severity : ndarray of shape (n,)
        When observed and adjudicated (NaN if not), in seconds since the epoch; the rule's severity in [0, 1].
    hosts, networks, rules, units : ndarray of int, shape (n,)
        Codes into `names`. A unit is a site: networks that share a host are one. With fewer than three sites, and
        for live rows, the units are hosts. Folds and the holdout never divide a unit's rows between fitting and
        scoring.
    event_class : ndarray of int8, shape (n,)
        `EventClass` or `UNCOUNTED`.
    steps, sources : ndarray of str, shape (n,)
        Step of the attack, empty for none; where the row is from.
    is_flood, is_reservoir : ndarray of bool, shape (n,)
        Part of a scan flood; from the uniform sample of scored events.
    names : Vocabulary
        What the codes stand for.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int8]
    weights: NDArray[np.float64]
    time_unix: NDArray[np.float64]
    adjudicated_unix: NDArray[np.float64]
    severity: NDArray[np.float64]
    hosts: Codes
    networks: Codes
    rules: Codes
    units: Codes
    event_class: NDArray[np.int8]
    steps: NDArray[np.str_]
    sources: NDArray[np.str_]
    is_flood: NDArray[np.bool_]
    is_reservoir: NDArray[np.bool_]
    names: Vocabulary

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[Any]) -> Dataset:
        """Return the rows at an index or mask; codes keep their meaning."""
        columns = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "names"}
        return Dataset(**{name: column[rows] for name, column in columns.items()}, names=self.names)

    def labelled(self) -> Dataset:
        """Return the adjudicated rows."""
        return self.take(self.labels != UNRESOLVED)


def load_dataset(path: Path, max_rows: int | None = None) -> Dataset:
    """Read the adjudicated and unresolved rows of the corpus stage's table.

    Parameters
    ----------
    path : Path
        ``corpus.parquet``.
    max_rows : int, optional
        More rows than this are sampled down, the same ones every time: by network, rule and label, in the order of the
        SHA-256 of their ids. Weights grow accordingly.

    Raises
    ------
    ConfigError
        The file is missing.
    """
    if not path.exists():
        raise ConfigError(f"there is no corpus at {path}", remedy="Run the stage before: dvc repro corpus")
    table = pq.read_table(path)
    if max_rows is not None and table.num_rows > max_rows:
        table = _sampled(table, max_rows)
    columns = {name: table[name] for name in table.column_names}
    hosts, host_names = _encode(columns["host_id"])
    networks, network_names = _encode(columns["network"])
    rules, rule_names = _encode(columns["rule_id"])
    sources = np.array(columns["source"].to_pylist(), np.str_)
    units, unit_names = independent_units(hosts, networks, host_names, network_names)
    units, unit_names = live_hosts_apart(units, unit_names, hosts, host_names, sources == LIVE_SOURCE)
    event_class = np.array(
        [_CLASS_OF_NAME.get(name, UNCOUNTED) for name in columns["event_class"].to_pylist()], np.int8
    )
    features = np.empty((table.num_rows, len(FEATURE_NAMES)))
    for index, name in enumerate(FEATURE_NAMES):
        features[:, index] = columns[name].to_numpy()
    return Dataset(
        features=features,
        labels=pc.fill_null(columns["label"], UNRESOLVED).to_numpy().astype(np.int8),
        weights=columns["weight"].to_numpy(),
        time_unix=columns["observed_at_unix"].to_numpy(),
        adjudicated_unix=pc.fill_null(columns["adjudicated_at_unix"], np.nan).to_numpy(),
        severity=columns["severity"].to_numpy(),
        hosts=hosts,
        networks=networks,
        rules=rules,
        units=units,
        event_class=event_class,
        steps=np.array(columns["attack_step"].to_pylist(), np.str_),
        sources=sources,
        is_flood=columns["is_flood"].to_numpy(),
        is_reservoir=columns["is_reservoir"].to_numpy(),
        names=Vocabulary(host_names, network_names, rule_names, unit_names),
    )


def independent_units(
    hosts: Codes, networks: Codes, host_names: tuple[str, ...], network_names: tuple[str, ...]
) -> tuple[Codes, tuple[str, ...]]:
    """Group rows into units that share neither host nor network; hosts themselves where that leaves too few.

    A unit is named after its first network.

    Examples
    --------
    >>> hosts, networks = np.array([0, 1, 1, 2, 3]), np.array([0, 0, 1, 2, 3])
    >>> independent_units(hosts, networks, tuple("abcd"), ("n0", "n1", "n2", "n3"))
    (array([0, 0, 0, 1, 2]), ('n0', 'n2', 'n3'))
    >>> independent_units(hosts[:3], networks[:3], tuple("abcd"), ("n0", "n1", "n2", "n3"))[1]
    ('a', 'b')
    """
    n_hosts, size = len(host_names), len(host_names) + len(network_names)
    links = coo_array((np.ones(len(hosts)), (hosts, networks + n_hosts)), (size, size))
    _, component = connected_components(links, directed=False)
    present, units = np.unique(component[hosts], return_inverse=True)
    if len(present) < MIN_SITES:
        seen, by_host = np.unique(hosts, return_inverse=True)
        return by_host, tuple(host_names[host] for host in seen)
    first_network = [int(networks[component[hosts] == label].min()) for label in present]
    return units, tuple(network_names[network] for network in first_network)


def live_hosts_apart(
    units: Codes,
    unit_names: tuple[str, ...],
    hosts: Codes,
    host_names: tuple[str, ...],
    is_live: NDArray[np.bool_],
) -> tuple[Codes, tuple[str, ...]]:
    """Make each host a unit of its own where a unit holds live rows and no others.

    An operator's own groups are no independent sites: they share people, software and whoever attacks them, and all are
    observed at once. What a nightly model meets next is a host of theirs, so hosts are what is left out.

    Examples
    --------
    >>> units, hosts = np.array([0, 1, 1, 1]), np.array([0, 1, 2, 2])
    >>> is_live = np.array([False, True, True, True])
    >>> live_hosts_apart(units, ("site", "group"), hosts, ("a", "b", "c"), is_live)
    (array([0, 1, 2, 2]), ('site', 'b', 'c'))
    """
    n_shipped = np.bincount(units[~is_live], minlength=len(unit_names))
    apart = is_live & (n_shipped[units] == 0)
    if not apart.any():
        return units, unit_names
    split = np.where(apart, len(unit_names) + hosts, units)
    present, codes = np.unique(split, return_inverse=True)
    names = (*unit_names, *host_names)
    return codes, tuple(names[unit] for unit in present.tolist())


def _sampled(table: pa.Table, max_rows: int) -> pa.Table:
    labels = pc.fill_null(table["label"], UNRESOLVED).to_numpy().astype(np.int64)
    strata = [_encode(table["network"])[0], _encode(table["rule_id"])[0], labels]
    rank = hash_ranks(table["sample_id"].to_pylist())
    kept, weights = stratified_sample(
        strata, rank, table["weight"].to_numpy(), budget=max_rows, min_rows=_MIN_STRATUM_ROWS
    )
    sampled = table.take(kept)
    return sampled.set_column(sampled.column_names.index("weight"), "weight", pa.array(weights))


def _encode(column: Any) -> tuple[Codes, tuple[str, ...]]:
    """Return codes into the sorted distinct names."""
    encoded = column.combine_chunks().dictionary_encode()
    if hasattr(encoded, "combine_chunks"):
        encoded = encoded.combine_chunks()
    names = encoded.dictionary.to_pylist()
    order = np.argsort(np.array(names, np.str_), kind="stable")
    rank = np.empty(len(names), np.intp)
    rank[order] = np.arange(len(names))
    return rank[encoded.indices.to_numpy()], tuple(names[position] for position in order)

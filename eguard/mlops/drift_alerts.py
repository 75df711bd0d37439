"""Alerts as codes: what the drift evaluation needs of a million of them, in forty bytes each.

The classes of a network's drift are the rules that were commonest while its reference was taken, and `other`, exactly
as for feature 23 (`eguard.detection.rule_drift`): what comes later must not decide how it is measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eguard.detection.rule_drift import NAMED_RULES, commonest_rules
from eguard.events import EventBatch
from eguard.mlops.tables import read_coded_columns

HOUR_SECONDS: Final = 3600.0
N_CLASSES: Final = NAMED_RULES + 1
#: Two scanners that make nine tenths of the shipped attack alerts.
FLOOD_STEPS: Final = frozenset({"wpscan", "dirb"})
#: The data set labels some single log events more finely than its attack windows; here is the step each belongs to.
STEP_OF_LABEL: Final = {
    "attacker_change_user": "privilege_escalation",
    "crack_passwords": "cracking",
    "dns_scan": "network_scans",
    "escalated_sudo_command": "privilege_escalation",
    "online_cracking": "cracking",
    "service_scan": "service_scans",
    "webshell_cmd": "webshell",
}
_COLUMNS: Final = ("host_id", "group", "rule_id", "label")

Codes = NDArray[np.int32]
#: Texts as indices into the distinct ones.
Coded = tuple[Codes, list[str]]


@dataclass(frozen=True, slots=True)
class NetworkAlerts:
    """Alerts of one network in time order.

    Attributes
    ----------
    name : str
        The network.
    start_unix : float
        The full hour in which its first alert fell.
    time_unix : ndarray of shape (n,)
        Rising.
    host, rule_class, step : ndarray of int32, shape (n,)
        Index into `hosts`, class 0 to 63 of the rule, index into `steps`.
    hosts, steps : tuple of str
        Names; step "" is everything that is no attack.
    """

    name: str
    start_unix: float
    time_unix: NDArray[np.float64]
    host: Codes
    rule_class: Codes
    step: Codes
    hosts: tuple[str, ...]
    steps: tuple[str, ...]

    @property
    def n_hours(self) -> int:
        """Hours from the first to the last alert, both included."""
        return int((self.time_unix[-1] - self.start_unix) // HOUR_SECONDS) + 1

    @property
    def end_unix(self) -> float:
        """End of the last hour."""
        return self.start_unix + self.n_hours * HOUR_SECONDS

    def steps_except(self, left_out: frozenset[str]) -> NDArray[np.bool_]:
        """Return which steps remain without those named, shape (n_steps,)."""
        return np.array([step not in left_out for step in self.steps], dtype=np.bool_)


def read_networks(path: Path, reference_hours: int) -> list[NetworkAlerts]:
    """Read a table of alerts that the ingest stage wrote; `split_networks` says what comes of it.

    Raises
    ------
    ConfigError
        There is no such table.
    """
    times, coded = read_coded_columns(path, _COLUMNS)
    return _split(times, coded, reference_hours)


def split_networks(alerts: EventBatch, reference_hours: int) -> list[NetworkAlerts]:
    """Return the networks by name; the rules of each one's first `reference_hours` hours are its classes.

    Parameters
    ----------
    alerts : EventBatch
        Alerts of any networks in any order; of one instant, in the order given.
    reference_hours : int
        Hours from the full hour of a network's first alert.
    """
    return _split(alerts.time_unix, {name: text_codes(getattr(alerts, name)) for name in _COLUMNS}, reference_hours)


def _split(times: NDArray[np.float64], coded: Mapping[str, Coded], reference_hours: int) -> list[NetworkAlerts]:
    if not times.size:
        return []
    network, networks = coded["group"]
    # Tables are in order already; a million rows are sorted only where they are not.
    steps_back = (np.diff(network) < 0) | ((np.diff(network) == 0) & (np.diff(times) < 0))
    order = np.lexsort((times, network)) if steps_back.any() else np.arange(times.size)
    cuts = np.flatnonzero(np.diff(network[order])) + 1
    split = []
    for rows in np.split(order, cuts):
        own = {name: (codes[rows], texts) for name, (codes, texts) in coded.items()}
        split.append(_network(networks[network[rows[0]]], times[rows], own, reference_hours))
    return sorted(split, key=lambda alerts: alerts.name)


def _network(name: str, times: NDArray[np.float64], coded: Mapping[str, Coded], reference_hours: int) -> NetworkAlerts:
    start = float(np.floor(times[0] / HOUR_SECONDS) * HOUR_SECONDS)
    hosts, host = _renumbered(*coded["host_id"])
    labels, texts = coded["label"]
    steps, step = _renumbered(labels, [STEP_OF_LABEL.get(text, text) for text in texts])
    learned = int(np.searchsorted(times, start + reference_hours * HOUR_SECONDS))
    return NetworkAlerts(
        name=name,
        start_unix=start,
        time_unix=times,
        host=host,
        rule_class=_classes(*coded["rule_id"], learned),
        step=step,
        hosts=hosts,
        steps=steps,
    )


def text_codes(texts: list[str]) -> Coded:
    """Return the texts as indices into the distinct ones, which are in order of appearance.

    Examples
    --------
    >>> codes, names = text_codes(["b", "a", "b"])
    >>> codes.tolist(), names
    ([0, 1, 0], ['b', 'a'])
    """
    encoded = pa.array(texts, pa.string()).dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32), encoded.dictionary.to_pylist()


def _renumbered(codes: Codes, names: list[str]) -> tuple[tuple[str, ...], Codes]:
    """Return the names that occur, in order and each once, and the codes as indices into them."""
    occurring = np.flatnonzero(np.bincount(codes, minlength=len(names)))
    distinct = sorted({names[code] for code in occurring})
    place = np.zeros(len(names), dtype=np.int32)
    for code in occurring:
        place[code] = distinct.index(names[code])
    return tuple(distinct), place[codes]


def _classes(rule: Codes, rules: list[str], learned: int) -> Codes:
    counts = np.bincount(rule[:learned], minlength=len(rules))
    named = commonest_rules(Counter({rules[i]: int(counts[i]) for i in np.flatnonzero(counts)}))
    class_of = np.array([named.get(name, NAMED_RULES) for name in rules], dtype=np.int32)
    return class_of[rule]

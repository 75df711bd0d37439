"""From what the layers found to feature rows: the one extractor of agent, replay, corpus and server.

`extract_features` works on columns; `extract_one` writes the definitions of the contract out for a single event in
plain Python, and the tests hold the two equal. Columns 7 and 41 come from a model's `FittedTables` and are 0 without.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.feature_contract import (
    CONTRACT_VERSION,
    FEATURE_INDEX,
    FEATURE_NAMES,
    FEATURES,
    N_FEATURES,
    contract,
    contract_sha256,
)
from eguard.detection.feature_inputs import FeatureInputs, Numbers
from eguard.detection.feature_row import extract_one
from eguard.detection.fitted_tables import FittedTables
from eguard.detection.text_statistics import byte_statistics, compressed_fraction, distinct_texts, text_bytes

__all__ = [
    "CONTRACT_VERSION",
    "FEATURES",
    "FEATURE_NAMES",
    "N_FEATURES",
    "FeatureInputs",
    "contract",
    "contract_sha256",
    "extract_features",
    "extract_one",
]

#: Renyi-2 entropy of a handful of bytes is high whatever they are.
RENYI_MIN_BYTES: Final = 20
#: Shannon entropy of a label that uses all of a-z and 0-9 evenly.
LABEL_ENTROPY_BITS: Final = float(np.log2(36))

Rows = NDArray[np.float64]


def extract_features(inputs: FeatureInputs, tables: FittedTables | None = None) -> Rows:
    """Return the feature rows of n events.

    Parameters
    ----------
    inputs : FeatureInputs
        Columns of n events.
    tables : FittedTables, optional
        A model's tables, for columns 7 and 41.

    Returns
    -------
    ndarray of float64 of shape (n, 43), in the contract's order, every value in [0, 1]
        An input that is no number, or out of range, is clamped into it; NaN counts as 0.

    Raises
    ------
    EstimatorInputError
        A column has another length than the others.

    Examples
    --------
    >>> inputs = FeatureInputs.empty(1)
    >>> inputs.command_line = ["whoami"]
    >>> row = extract_features(inputs)[0]
    >>> {name: round(value, 3) for name, value in zip(FEATURE_NAMES, row.tolist()) if value}
    {'has_command_line': 1.0, 'cmdline_length_norm': 0.012, 'cmdline_compression': 1.0, 'cmdline_min_entropy': 0.323}
    """
    inputs.check()
    rows = np.zeros((len(inputs), N_FEATURES))
    columns = {**_layers(inputs), **_texts(inputs), **_tree(inputs), **_context(inputs)}
    for name, values in columns.items():
        rows[:, FEATURE_INDEX[name]] = values
    for product, (left, right) in INTERACTIONS.items():
        rows[:, FEATURE_INDEX[product]] = rows[:, FEATURE_INDEX[left]] * rows[:, FEATURE_INDEX[right]]
    return rows if tables is None else tables.apply(rows, inputs.event_class, inputs.rule_id)


#: Products of two features, taken when those are in place.
INTERACTIONS: Final = {
    "z1_z2_interaction": ("z1_ioc_hit", "z2_temporal_count"),
    "z1_z4_interaction": ("z1_ioc_hit", "z4_killchain_count"),
    "anomaly_behavioral": ("z3_anomaly_high", "multi_layer_count"),
}


def _share(values: Numbers, scale: float = 1.0) -> Rows:
    """Return values/scale, clamped to [0, 1]; NaN counts as 0."""
    clamped: Rows = np.clip(np.nan_to_num(np.asarray(values, np.float64), nan=0.0) / scale, 0.0, 1.0)
    return clamped


def _flag(values: Numbers) -> Rows:
    return (np.nan_to_num(np.asarray(values, np.float64), nan=0.0) > 0.0).astype(np.float64)


def _log_share(counts: Numbers, scale: float) -> Rows:
    """Return log2(1 + n)/scale, clamped to [0, 1]."""
    return _share(np.log2(1.0 + np.maximum(np.nan_to_num(np.asarray(counts, np.float64), nan=0.0), 0.0)), scale)


def _layers(inputs: FeatureInputs) -> dict[str, Rows]:
    return {
        "z1_ioc_hit": _flag(inputs.ioc_hit),
        "z2_temporal_count": _share(inputs.rule_matches_60s, 3),
        "z3_anomaly_high": _flag(inputs.anomaly_high),
        "z3_anomaly_med": _flag(inputs.anomaly_medium),
        "z4_killchain_count": _share(inputs.tactics_1h, 3),
        "yara_hit_count": _share(inputs.yara_hits, 5),
        "string_sig_count": _share(inputs.string_signature_hits, 5),
        "uid_is_root": _flag(inputs.is_elevated),
        "dst_port_risk": _share(inputs.port_rarity),
        "prefilter_hit": _flag(inputs.prefilter_hit),
        "multi_layer_count": _share(inputs.layers_fired, 4),
        "event_size_norm": _share(inputs.event_bytes, 4096),
        "container_risk": _share(inputs.container_risk),
        "behavioral_alarm_count": _share(inputs.behavioural_alarms_1h, 5),
        "c2_beacon_mi": _share(inputs.beacon_mi_bits, 3),
        "beacon_periodicity": _share(inputs.beacon_periodicity),
    }


def _texts(inputs: FeatureInputs) -> dict[str, Rows]:
    lines, row_of = distinct_texts(inputs.command_line)
    line = byte_statistics(lines).take(row_of)
    compression = np.array([compressed_fraction(text_bytes(text)) for text in lines])
    label = byte_statistics([name.partition(".")[0].lower() for name in inputs.dns_name])
    path = byte_statistics(inputs.file_path)
    return {
        "has_command_line": (line.n_bytes > 0).astype(np.float64),
        "cmdline_length_norm": _share(line.n_bytes, 500),
        "cmdline_renyi_h2": _share(np.where(line.n_bytes >= RENYI_MIN_BYTES, line.renyi2_bits, 0.0), 8),
        "cmdline_compression": compression[row_of],
        "cmdline_min_entropy": _share(line.min_entropy_bits, 8),
        "cmdline_entropy_gap": _share(line.shannon_bits - line.min_entropy_bits, 4),
        "dns_entropy": _share(label.shannon_bits, LABEL_ENTROPY_BITS),
        "file_path_entropy": _share(path.shannon_bits, 8),
        "file_path_depth": _share(path.separators, 10),
    }


def _tree(inputs: FeatureInputs) -> dict[str, Rows]:
    return {
        "tree_depth": _share(inputs.tree_depth, 10),
        "tree_breadth": _log_share(inputs.siblings_alive, 8),
        "child_entropy": _share(inputs.child_entropy),
        "spawn_rate": _log_share(inputs.spawned_60s, 8),
        "rare_parent_child_score": _share(inputs.parent_child_rarity),
    }


def _context(inputs: FeatureInputs) -> dict[str, Rows]:
    return {
        "rule_rarity_host": _share(inputs.rule_rarity_host),
        "rule_rarity_fleet": _share(inputs.rule_rarity_fleet),
        "rule_burst": _share(inputs.rule_burst),
        "distinct_rules": _share(inputs.distinct_rules),
        "silence_before": _share(inputs.silence_before),
        "detector_agreement": _share(inputs.detector_agreement),
        "hour_rarity": _share(inputs.hour_rarity),
        "fleet_cooccurrence": _log_share(inputs.cooccurring_hosts, 8),
    }

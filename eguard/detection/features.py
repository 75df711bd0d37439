"""From what the layers found to feature rows: the one extractor of agent, replay, corpus and server.

`extract_features` works on columns; `extract_one` writes the definitions of the contract out for a single event in
plain Python, and the tests hold the two equal. Columns 7 and 41 come from a model's `FittedTables` and are 0 without.
"""

from __future__ import annotations

from collections.abc import Iterable
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
from eguard.detection.feature_inputs import FeatureInputs
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
    for names, columns in (_scaled(inputs), _flags(inputs), _log_scaled(inputs), _texts(inputs)):
        rows[:, [FEATURE_INDEX[name] for name in names]] = columns
    for product, (left, right) in INTERACTIONS.items():
        rows[:, FEATURE_INDEX[product]] = rows[:, FEATURE_INDEX[left]] * rows[:, FEATURE_INDEX[right]]
    return rows if tables is None else tables.apply(rows, inputs.event_class, inputs.rule_id)


#: Feature: (input, value at which the feature reaches 1).
SCALED: Final = {
    "z2_temporal_count": ("rule_matches_60s", 3.0),
    "z4_killchain_count": ("tactics_1h", 3.0),
    "yara_hit_count": ("yara_hits", 5.0),
    "string_sig_count": ("string_signature_hits", 5.0),
    "dst_port_risk": ("port_rarity", 1.0),
    "multi_layer_count": ("layers_fired", 4.0),
    "event_size_norm": ("event_bytes", 4096.0),
    "container_risk": ("container_risk", 1.0),
    "behavioral_alarm_count": ("behavioural_alarms_1h", 5.0),
    "tree_depth": ("tree_depth", 10.0),
    "child_entropy": ("child_entropy", 1.0),
    "rare_parent_child_score": ("parent_child_rarity", 1.0),
    "c2_beacon_mi": ("beacon_mi_bits", 3.0),
    "beacon_periodicity": ("beacon_periodicity", 1.0),
    "rule_rarity_host": ("rule_rarity_host", 1.0),
    "rule_rarity_fleet": ("rule_rarity_fleet", 1.0),
    "rule_burst": ("rule_burst", 1.0),
    "distinct_rules": ("distinct_rules", 1.0),
    "silence_before": ("silence_before", 1.0),
    "detector_agreement": ("detector_agreement", 1.0),
    "hour_rarity": ("hour_rarity", 1.0),
}
#: Feature: input; 1 where it is positive.
FLAGS: Final = {
    "z1_ioc_hit": "ioc_hit",
    "z3_anomaly_high": "anomaly_high",
    "z3_anomaly_med": "anomaly_medium",
    "uid_is_root": "is_elevated",
    "prefilter_hit": "prefilter_hit",
}
#: Feature: input; log2(1 + n)/8.
LOG_SCALED: Final = {
    "tree_breadth": "siblings_alive",
    "spawn_rate": "spawned_60s",
    "fleet_cooccurrence": "cooccurring_hosts",
}
LOG2_SCALE: Final = 8.0
#: Products of two features, taken when those are in place.
INTERACTIONS: Final = {
    "z1_z2_interaction": ("z1_ioc_hit", "z2_temporal_count"),
    "z1_z4_interaction": ("z1_ioc_hit", "z4_killchain_count"),
    "anomaly_behavioral": ("z3_anomaly_high", "multi_layer_count"),
}


def _stack(inputs: FeatureInputs, names: Iterable[str]) -> Rows:
    """Return inputs side by side as float64, NaN as 0."""
    stacked = np.column_stack([np.asarray(getattr(inputs, name), np.float64) for name in names])
    stacked[np.isnan(stacked)] = 0.0
    return stacked


def _scaled(inputs: FeatureInputs) -> tuple[Iterable[str], Rows]:
    scales = np.array([scale for _, scale in SCALED.values()])
    return SCALED, np.clip(_stack(inputs, (name for name, _ in SCALED.values())) / scales, 0.0, 1.0)


def _flags(inputs: FeatureInputs) -> tuple[Iterable[str], Rows]:
    return FLAGS, (_stack(inputs, FLAGS.values()) > 0.0).astype(np.float64)


def _log_scaled(inputs: FeatureInputs) -> tuple[Iterable[str], Rows]:
    counts = np.maximum(_stack(inputs, LOG_SCALED.values()), 0.0)
    return LOG_SCALED, np.minimum(np.log2(1.0 + counts) / LOG2_SCALE, 1.0)


def _texts(inputs: FeatureInputs) -> tuple[Iterable[str], Rows]:
    lines, row_of = distinct_texts(inputs.command_line)
    compression = np.array([compressed_fraction(text_bytes(text)) for text in lines])
    line = byte_statistics(lines).take(row_of)
    label = byte_statistics([name.partition(".")[0].lower() for name in inputs.dns_name])
    path = byte_statistics(inputs.file_path)
    columns = {
        "has_command_line": line.n_bytes > 0,
        "cmdline_length_norm": line.n_bytes / 500.0,
        "cmdline_renyi_h2": np.where(line.n_bytes >= RENYI_MIN_BYTES, line.renyi2_bits, 0.0) / 8.0,
        "cmdline_compression": compression[row_of],
        "cmdline_min_entropy": line.min_entropy_bits / 8.0,
        "cmdline_entropy_gap": (line.shannon_bits - line.min_entropy_bits) / 4.0,
        "dns_entropy": label.shannon_bits / LABEL_ENTROPY_BITS,
        "file_path_entropy": path.shannon_bits / 8.0,
        "file_path_depth": path.separators / 10.0,
    }
    return columns, np.clip(np.column_stack(list(columns.values())), 0.0, 1.0)

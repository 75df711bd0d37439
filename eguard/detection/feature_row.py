"""The feature contract written out for one event: slow, plain, and the oracle of the column form."""

from __future__ import annotations

from math import isnan, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eguard.detection.feature_contract import FEATURE_INDEX, N_FEATURES
from eguard.detection.feature_inputs import FeatureInputs
from eguard.detection.fitted_tables import FittedTables
from eguard.detection.text_statistics import (
    compressed_fraction,
    min_entropy_bits,
    renyi2_entropy_bits,
    shannon_entropy_bits,
    text_bytes,
)


def extract_one(inputs: FeatureInputs, row: int, tables: FittedTables | None = None) -> NDArray[np.float64]:
    """Return the 43 features of the event at `row`, shape (43,).

    Examples
    --------
    >>> inputs = FeatureInputs.empty(1)
    >>> inputs.tree_depth[0] = 4
    >>> float(extract_one(inputs, 0)[27])
    0.4
    """
    values = {**_layer_values(inputs, row), **_text_values(inputs, row), **_context_values(inputs, row)}
    values["z1_z2_interaction"] = values["z1_ioc_hit"] * values["z2_temporal_count"]
    values["z1_z4_interaction"] = values["z1_ioc_hit"] * values["z4_killchain_count"]
    values["anomaly_behavioral"] = values["z3_anomaly_high"] * values["multi_layer_count"]
    if tables is not None:
        event_class = int(inputs.event_class[row])
        values["event_class_risk"] = tables.class_risk[event_class] if event_class >= 0 else 0.0
        values["rule_precision_prior"] = tables.rule_precision.get(inputs.rule_id[row], tables.rule_precision_default)
    result = np.zeros(N_FEATURES)
    for name, value in values.items():
        result[FEATURE_INDEX[name]] = value
    return result


def _layer_values(inputs: FeatureInputs, row: int) -> dict[str, float]:
    return {
        "z1_ioc_hit": _flag(inputs.ioc_hit[row]),
        "z2_temporal_count": _part(inputs.rule_matches_60s[row], 3),
        "z3_anomaly_high": _flag(inputs.anomaly_high[row]),
        "z3_anomaly_med": _flag(inputs.anomaly_medium[row]),
        "z4_killchain_count": _part(inputs.tactics_1h[row], 3),
        "yara_hit_count": _part(inputs.yara_hits[row], 5),
        "string_sig_count": _part(inputs.string_signature_hits[row], 5),
        "uid_is_root": _flag(inputs.is_elevated[row]),
        "dst_port_risk": _part(inputs.port_rarity[row], 1),
        "prefilter_hit": _flag(inputs.prefilter_hit[row]),
        "multi_layer_count": _part(inputs.layers_fired[row], 4),
        "event_size_norm": _part(inputs.event_bytes[row], 4096),
        "container_risk": _part(inputs.container_risk[row], 1),
        "behavioral_alarm_count": _part(inputs.behavioural_alarms_1h[row], 5),
        "tree_depth": _part(inputs.tree_depth[row], 10),
        "tree_breadth": _log_part(inputs.siblings_alive[row], 8),
        "child_entropy": _part(inputs.child_entropy[row], 1),
        "spawn_rate": _log_part(inputs.spawned_60s[row], 8),
        "rare_parent_child_score": _part(inputs.parent_child_rarity[row], 1),
        "c2_beacon_mi": _part(inputs.beacon_mi_bits[row], 3),
        "beacon_periodicity": _part(inputs.beacon_periodicity[row], 1),
    }


def _text_values(inputs: FeatureInputs, row: int) -> dict[str, float]:
    line = text_bytes(inputs.command_line[row])
    label = text_bytes(inputs.dns_name[row].split(".")[0].lower())
    path = text_bytes(inputs.file_path[row])
    return {
        "has_command_line": 1.0 if line else 0.0,
        "cmdline_length_norm": min(len(line) / 500, 1.0),
        "cmdline_renyi_h2": renyi2_entropy_bits(line) / 8 if len(line) >= 20 else 0.0,
        "cmdline_compression": compressed_fraction(line),
        "cmdline_min_entropy": min_entropy_bits(line) / 8,
        "cmdline_entropy_gap": min(max(shannon_entropy_bits(line) - min_entropy_bits(line), 0.0) / 4, 1.0),
        "dns_entropy": min(shannon_entropy_bits(label) / log2(36), 1.0),
        "file_path_entropy": shannon_entropy_bits(path) / 8,
        "file_path_depth": min((path.count(b"/") + path.count(b"\\")) / 10, 1.0),
    }


def _context_values(inputs: FeatureInputs, row: int) -> dict[str, float]:
    return {
        "rule_rarity_host": _part(inputs.rule_rarity_host[row], 1),
        "rule_rarity_fleet": _part(inputs.rule_rarity_fleet[row], 1),
        "rule_burst": _part(inputs.rule_burst[row], 1),
        "distinct_rules": _part(inputs.distinct_rules[row], 1),
        "silence_before": _part(inputs.silence_before[row], 1),
        "detector_agreement": _part(inputs.detector_agreement[row], 1),
        "hour_rarity": _part(inputs.hour_rarity[row], 1),
        "fleet_cooccurrence": _log_part(inputs.cooccurring_hosts[row], 8),
    }


def _flag(value: Any) -> float:
    return 1.0 if value > 0 else 0.0


def _part(value: Any, scale: float) -> float:
    """Return value/scale between 0 and 1; NaN is 0."""
    number = float(value)
    return 0.0 if isnan(number) else min(max(number / scale, 0.0), 1.0)


def _log_part(count: Any, scale: float) -> float:
    number = float(count)
    return 0.0 if isnan(number) or number <= 0 else min(log2(1 + number) / scale, 1.0)

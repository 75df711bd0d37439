from math import log2

import numpy as np
import pytest

from eguard.detection.context import AlertContext
from eguard.detection.feature_contract import FEATURE_INDEX, FEATURE_NAMES
from eguard.detection.features import FeatureInputs, extract_features, extract_one
from eguard.detection.fitted_tables import FittedTables
from eguard.errors import EstimatorInputError
from eguard.events.columns import EventBatch
from eguard.events.model import EventClass

TABLES = FittedTables((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), {"R": 0.9}, 0.25)

# 20 bytes: a 10 times, b 5, c 5. Shannon 1.5, Renyi-2 -log2(.25 + .0625 + .0625), min-entropy 1.
LINE = "a" * 10 + "b" * 5 + "c" * 5

# zlib writes 1,000 times the same byte as 19 bytes: 2 of header, 13 of deflate, 4 of checksum.
CASES = [
    ("z1_ioc_hit", {"ioc_hit": True}, 1.0),
    ("z2_temporal_count", {"rule_matches_60s": 2}, 2 / 3),
    ("z2_temporal_count", {"rule_matches_60s": 7}, 1.0),
    ("z3_anomaly_high", {"anomaly_high": True}, 1.0),
    ("z3_anomaly_med", {"anomaly_medium": True}, 1.0),
    ("z4_killchain_count", {"tactics_1h": 1}, 1 / 3),
    ("z4_killchain_count", {"tactics_1h": 9}, 1.0),
    ("yara_hit_count", {"yara_hits": 3}, 0.6),
    ("string_sig_count", {"string_signature_hits": 4}, 0.8),
    ("string_sig_count", {"string_signature_hits": 6}, 1.0),
    ("uid_is_root", {"is_elevated": True}, 1.0),
    ("dst_port_risk", {"port_rarity": 0.75}, 0.75),
    ("has_command_line", {"command_line": "x"}, 1.0),
    ("cmdline_length_norm", {"command_line": "x" * 125}, 0.25),
    ("cmdline_length_norm", {"command_line": "ä" * 125}, 0.5),
    ("cmdline_length_norm", {"command_line": "x" * 501}, 1.0),
    ("prefilter_hit", {"prefilter_hit": True}, 1.0),
    ("multi_layer_count", {"layers_fired": 3}, 0.75),
    ("multi_layer_count", {"layers_fired": 5}, 1.0),
    ("cmdline_renyi_h2", {"command_line": LINE}, -log2(0.375) / 8),
    ("cmdline_renyi_h2", {"command_line": LINE[:-1]}, 0.0),
    ("cmdline_compression", {"command_line": "abc"}, 1.0),
    ("cmdline_compression", {"command_line": "a" * 1000}, 19 / 1000),
    ("cmdline_min_entropy", {"command_line": LINE}, 1 / 8),
    ("cmdline_entropy_gap", {"command_line": LINE}, 0.5 / 4),
    ("dns_entropy", {"dns_name": "AbcD.example.com"}, 2 / log2(36)),
    ("dns_entropy", {"dns_name": "aAaA.evil"}, 0.0),
    ("dns_entropy", {"dns_name": "".join(map(chr, range(48, 120)))}, 1.0),
    ("event_size_norm", {"event_bytes": 1024}, 0.25),
    ("event_size_norm", {"event_bytes": 5000}, 1.0),
    ("container_risk", {"container_risk": 0.5}, 0.5),
    ("file_path_entropy", {"file_path": "abab/"}, (2 * 0.4 * -log2(0.4) - 0.2 * log2(0.2)) / 8),
    ("file_path_depth", {"file_path": "C:\\a\\b/c"}, 0.3),
    ("file_path_depth", {"file_path": "/" * 11}, 1.0),
    ("behavioral_alarm_count", {"behavioural_alarms_1h": 2}, 0.4),
    ("z1_z2_interaction", {"ioc_hit": True, "rule_matches_60s": 1}, 1 / 3),
    ("z1_z2_interaction", {"rule_matches_60s": 3}, 0.0),
    ("z1_z4_interaction", {"ioc_hit": True, "tactics_1h": 2}, 2 / 3),
    ("anomaly_behavioral", {"anomaly_high": True, "layers_fired": 2}, 0.5),
    ("anomaly_behavioral", {"anomaly_medium": True, "layers_fired": 2}, 0.0),
    ("tree_depth", {"tree_depth": 3}, 0.3),
    ("tree_depth", {"tree_depth": 12}, 1.0),
    ("tree_breadth", {"siblings_alive": 3}, 0.25),
    ("tree_breadth", {"siblings_alive": 1000}, 1.0),
    ("child_entropy", {"child_entropy": 0.7}, 0.7),
    ("spawn_rate", {"spawned_60s": 15}, 0.5),
    ("rare_parent_child_score", {"parent_child_rarity": 0.9}, 0.9),
    ("c2_beacon_mi", {"beacon_mi_bits": 1.5}, 0.5),
    ("c2_beacon_mi", {"beacon_mi_bits": 3.2}, 1.0),
    ("beacon_periodicity", {"beacon_periodicity": 0.8}, 0.8),
    ("rule_rarity_host", {"rule_rarity_host": 0.11}, 0.11),
    ("rule_rarity_fleet", {"rule_rarity_fleet": 0.12}, 0.12),
    ("rule_burst", {"rule_burst": 0.13}, 0.13),
    ("distinct_rules", {"distinct_rules": 0.14}, 0.14),
    ("silence_before", {"silence_before": 0.15}, 0.15),
    ("detector_agreement", {"detector_agreement": 0.16}, 0.16),
    ("hour_rarity", {"hour_rarity": 0.17}, 0.17),
    ("fleet_cooccurrence", {"cooccurring_hosts": 3}, 0.25),
    ("fleet_cooccurrence", {"cooccurring_hosts": 255}, 1.0),
    ("event_class_risk", {"event_class": EventClass.DNS_QUERY}, 0.5),
    ("event_class_risk", {"event_class": -1}, 0.0),
    ("rule_precision_prior", {"rule_id": "R"}, 0.9),
    ("rule_precision_prior", {"rule_id": "never adjudicated"}, 0.25),
]


def inputs_of(**values):
    """Return the inputs of two events: the second has `values`, the first knows nothing."""
    inputs = FeatureInputs.empty(2)
    for name, value in values.items():
        getattr(inputs, name)[1] = value
    return inputs


@pytest.mark.parametrize(("name", "values", "expected"), CASES)
def test_feature_has_its_hand_computed_value(name, values, expected):
    rows = extract_features(inputs_of(**values), TABLES)
    assert rows[1, FEATURE_INDEX[name]] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "values", "expected"), CASES)
def test_scalar_form_has_the_same_hand_computed_value(name, values, expected):
    assert extract_one(inputs_of(**values), 1, TABLES)[FEATURE_INDEX[name]] == pytest.approx(expected, abs=1e-12)


def test_every_feature_has_a_hand_computed_case():
    assert {name for name, _, _ in CASES} == set(FEATURE_NAMES)


def test_nothing_known_is_all_zero_and_fitted_columns_wait_for_a_model():
    inputs = FeatureInputs.empty(3)
    assert not extract_features(inputs).any()
    filled = extract_features(inputs, TABLES)
    assert filled[:, 41].tolist() == [0.25] * 3
    assert not np.delete(filled, 41, axis=1).any()


def test_no_events_give_no_rows():
    assert extract_features(FeatureInputs.empty(0)).shape == (0, 43)


def test_a_column_of_another_length_is_named():
    inputs = FeatureInputs.empty(2)
    inputs.tree_depth = np.zeros(3)
    with pytest.raises(EstimatorInputError, match="tree_depth: 3 values for 2 events"):
        extract_features(inputs)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -3.0, 1e300])
def test_numbers_out_of_range_are_clamped(value):
    inputs = FeatureInputs.empty(1)
    for name in ("rule_matches_60s", "event_bytes", "port_rarity", "spawned_60s", "cooccurring_hosts", "hour_rarity"):
        setattr(inputs, name, np.array([value]))
    rows = extract_features(inputs)
    assert np.all((rows >= 0) & (rows <= 1))
    assert rows[0].tolist() == extract_one(inputs, 0).tolist()
    assert rows[0, FEATURE_INDEX["spawn_rate"]] == (1.0 if value > 0 else 0.0)


def test_a_batch_tells_paths_names_and_lines():
    batch = EventBatch(
        time_unix=[1.0, 2.0, 3.0, 4.0, 5.0],
        event_class=[0, 2, 4, 5, 3],
        image_path=["/bin/sh", "/bin/sh", "/bin/sh", "/bin/sh", "/bin/sh"],
        target=["x", "/etc/passwd", "abcd.example", "/lib/a.so", "10.0.0.1"],
        command_line=["sh -c id", "", "", "", ""],
        is_elevated=[True, False, False, False, False],
        event_bytes=[4096, 0, 0, 0, 0],
        rule_id=["R", "", "", "", ""],
    )
    inputs = FeatureInputs.from_batch(batch)
    assert inputs.file_path == ["/bin/sh", "/etc/passwd", "", "/lib/a.so", ""]
    assert inputs.dns_name == ["", "", "abcd.example", "", ""]
    rows = extract_features(inputs, TABLES)
    for name, expected in {"uid_is_root": 1.0, "event_size_norm": 1.0, "has_command_line": 1.0}.items():
        assert rows[0, FEATURE_INDEX[name]] == expected
    assert rows[:, 7].tolist() == pytest.approx([0.1, 0.3, 0.5, 0.6, 0.4])
    assert rows[0, 41] == 0.9


def test_the_context_of_a_host_fills_features_34_to_40():
    context = AlertContext()
    columns = context.update_keys([0.0, 600.0], ["A", "B"], ["wazuh", "aminer"])
    inputs = FeatureInputs.empty(2)
    inputs.set_context(columns)
    rows = extract_features(inputs)
    assert rows[1, 34:41].tolist() == pytest.approx([0.75, 0.5, 0.0, 1 / 16, 1.0, 0.25, 0.5])

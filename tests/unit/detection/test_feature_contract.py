import json
from pathlib import Path

from eguard.detection.feature_contract import (
    FEATURE_INDEX,
    FEATURE_NAMES,
    FEATURES,
    contract,
    contract_markdown,
    contract_sha256,
    feature_groups,
)
from eguard.wire.canonical import canonical_json

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "features.md"
GOLDEN = Path(__file__).parents[2] / "golden" / "feature-contract-v2.sha256"


def test_there_are_43_features_in_their_places():
    assert [feature.index for feature in FEATURES] == list(range(43))
    assert len(set(FEATURE_NAMES)) == 43
    assert FEATURE_NAMES[0] == "z1_ioc_hit"
    assert FEATURE_NAMES[7] == "event_class_risk"
    assert FEATURE_NAMES[32:35] == ("c2_beacon_mi", "beacon_periodicity", "rule_rarity_host")
    assert FEATURE_NAMES[41:] == ("rule_precision_prior", "fleet_cooccurrence")
    assert all(FEATURE_INDEX[feature.name] == feature.index for feature in FEATURES)


def test_every_feature_is_defined_and_belongs_to_one_group():
    assert all(feature.definition and feature.source for feature in FEATURES)
    names = [name for group in feature_groups().values() for name in group]
    assert sorted(names) == sorted(FEATURE_NAMES)


def test_the_contract_is_plain_json():
    assert json.loads(canonical_json(contract())) == contract()
    assert contract()["version"] == 2
    assert {tuple(feature["range"]) for feature in contract()["features"]} == {(0.0, 1.0)}


def test_the_contract_of_a_version_never_changes():
    """A new definition needs a new version, or models would read other features than they were trained on."""
    assert contract_sha256() == GOLDEN.read_text().strip()


def test_the_reference_page_is_current():
    assert PAGE.read_text() == contract_markdown(), "write contract_markdown() to docs/reference/features.md"

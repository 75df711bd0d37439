import math

import pytest

from eguard.errors import PolicyError
from eguard.policy import BaselineMode, PolicyDocument, parse_policy_document

MANUAL_12_1 = {
    "baseline_upload_enabled": True,
    "fleet_seed_enabled": True,
    "baseline_upload_canary_percent": 5,
    "fleet_seed_canary_percent": 5,
    "baseline_mode": "learning",
}


def test_the_manuals_template_is_read_and_written_as_it_is():
    document = parse_policy_document(MANUAL_12_1)
    assert document == PolicyDocument(
        baseline_upload_enabled=True,
        fleet_seed_enabled=True,
        baseline_upload_canary_percent=5.0,
        fleet_seed_canary_percent=5.0,
        baseline_mode=BaselineMode.LEARNING,
    )
    assert document.to_json() == MANUAL_12_1


def test_what_is_left_out_stays_out():
    document = parse_policy_document({"baseline_upload_enabled": False, "fleet_seed_enabled": False})
    assert document.to_json() == {"baseline_upload_enabled": False, "fleet_seed_enabled": False}
    assert document.baseline_upload_canary_percent is None
    assert parse_policy_document({}).to_json() == {}


@pytest.mark.parametrize("percent", [0, 0.0, 0.01, 0.07, 0.29, 1.1, 33.33, 57.14, 99.99, 100, 100.0])
def test_every_hundredth_of_a_percent_is_taken(percent):
    assert parse_policy_document({"fleet_seed_canary_percent": percent}).fleet_seed_canary_percent == percent


def test_minus_zero_is_zero():
    percent = parse_policy_document({"bundle_canary_percent": -0.0}).bundle_canary_percent
    assert math.copysign(1.0, percent) == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("baseline_upload_canary_percent", "5"),
        ("baseline_upload_canary_percent", True),
        ("baseline_upload_canary_percent", None),
        ("baseline_upload_canary_percent", math.nan),
        ("baseline_upload_canary_percent", math.inf),
        ("baseline_upload_canary_percent", 101),
        ("baseline_upload_canary_percent", 100.01),
        ("baseline_upload_canary_percent", -0.01),
        ("baseline_upload_canary_percent", 10**400),
        ("fleet_seed_canary_percent", 0.005),
        ("fleet_seed_canary_percent", 33.333),
        ("fleet_seed_canary_percent", [5]),
        ("bundle_canary_percent", {"share": 5}),
        ("baseline_upload_enabled", 1),
        ("baseline_upload_enabled", "true"),
        ("fleet_seed_enabled", None),
        ("rollout_id", ""),
        ("rollout_id", "x" * 65),
        ("rollout_id", "é" * 33),
        ("rollout_id", "a\nb"),
        ("rollout_id", "\ud800"),
        ("rollout_id", 7),
        ("baseline_mode", "Learning"),
        ("baseline_mode", ""),
        ("baseline_mode", ["learning"]),
        ("colour", "red"),
        ("Baseline_upload_enabled", True),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_a_bad_field_is_refused_by_name(name, value):
    with pytest.raises(PolicyError) as refused:
        parse_policy_document({"fleet_seed_enabled": True} | {name: value})
    assert [field for field, _ in refused.value.errors] == [name]
    assert refused.value.context["reason"] == "invalid_policy"


def test_every_bad_field_is_named_at_once():
    with pytest.raises(PolicyError) as refused:
        parse_policy_document({"x": 1, "fleet_seed_enabled": 0, "fleet_seed_canary_percent": "5", "rollout_id": "ok"})
    assert [field for field, _ in refused.value.errors] == ["fleet_seed_canary_percent", "fleet_seed_enabled", "x"]


@pytest.mark.parametrize("value", [None, [], "{}", 5, True], ids=repr)
def test_what_is_no_object_is_no_policy(value):
    with pytest.raises(PolicyError) as refused:
        parse_policy_document(value)
    assert refused.value.errors[0][0] == "policy_json"


def test_a_rollout_id_of_64_bytes_is_taken():
    assert parse_policy_document({"rollout_id": "é" * 32}).rollout_id == "é" * 32

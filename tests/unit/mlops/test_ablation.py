import pytest

from eguard.detection.feature_contract import FEATURES
from eguard.mlops.ablation import feature_groups, without_each_group
from eguard.mlops.classifiers import Logistic
from eguard.mlops.model_selection import FittingOptions


def test_every_feature_is_left_out_at_least_once():
    groups = feature_groups()
    assert {index for indices in groups.values() for index in indices} == set(range(len(FEATURES)))
    assert groups["rule_precision_prior"] == (41,)
    assert groups["fleet_cooccurrence"] == (42,)


def test_groups_that_carry_nothing_cost_nothing(dataset):
    report = without_each_group(dataset, range(5), Logistic(0.01, 50), FittingOptions(), seed=0, n_replicates=20)
    without = report["without"]
    assert {name for name, row in without.items() if row.get("is_constant")} >= {"text", "tree", "beacon", "layers"}
    assert without["context"]["loss"]["interval"][0] > 0  # burst and silence made the labels
    assert without["fitted"]["loss"]["interval"][0] > 0  # and so did the rule
    # There is one event class only, so its risk says nothing.
    assert without["fitted"]["loss"]["value"] == pytest.approx(
        without["rule_precision_prior"]["loss"]["value"], abs=0.01
    )
    assert report["all_features"]["value"] > without["context"]["average_precision"]["value"]

import numpy as np
import pytest

from eguard.detection.feature_contract import FEATURE_NAMES, contract_sha256
from eguard.detection.fitted_tables import FittedTables
from eguard.detection.model import load_model
from eguard.mlops.adversarial import ATTACKER_CONTROLS, SHRINKAGES, adversarial_shrinkages
from eguard.mlops.intervals import HostSample

WIDTH = len(FEATURE_NAMES)


def linear_model(**coefficients):
    weights = [coefficients.get(name, 0.0) for name in FEATURE_NAMES]
    return load_model(
        {
            "format": 1,
            "kind": "logistic",
            "version": "v",
            "contract_sha256": contract_sha256(),
            "n_features": WIDTH,
            "threshold": 0.5,
            "platt": {"slope": 1.0, "intercept": 0.0},
            "tables": FittedTables((0.0,) * 8, {}, 0.0).to_json(),
            "parameters": {"coefficients": weights, "intercept": -2.0, "center": [0.0] * WIDTH, "scale": [1.0] * WIDTH},
        }
    )


@pytest.fixture
def attacks_by_burst():
    """Attacks burst, others do not: sixty rows of each."""
    features = np.zeros((120, WIDTH))
    labels = np.repeat([1, 0], 60).astype(np.int8)
    features[:60, FEATURE_NAMES.index("rule_burst")] = 0.9
    return features, HostSample(labels, np.zeros(120), np.ones(120), np.zeros(120, np.intp))


def test_recall_falls_as_the_attack_slows_down(attacks_by_burst):
    features, sample = attacks_by_burst
    rows = adversarial_shrinkages(linear_model(rule_burst=4.0), features, sample, np.zeros(WIDTH))
    recall = {(row["moved"], row["strength"]): row["operating_recall"] for row in rows}
    assert recall["nothing", 0.0] == 1.0
    # 4 * .9 * (1 - s) - 2 > 0 while s < .44
    assert [recall["pace", strength] for strength in SHRINKAGES] == [1.0, 0.0, 0.0]
    assert recall["text", 1.0] == recall["process tree", 1.0] == 1.0
    assert recall["all of these", 1.0] == 0.0


def test_rows_that_are_no_attack_stay(attacks_by_burst):
    features, sample = attacks_by_burst
    before = features.copy()
    rows = adversarial_shrinkages(linear_model(rule_burst=4.0), features, sample, np.ones(WIDTH))
    assert np.array_equal(features, before)
    assert rows[-1]["average_precision"] == 1.0  # the attacks moved up, the others did not follow


def test_no_attacker_controls_what_the_fleet_or_the_model_knows():
    controlled = {name for names in ATTACKER_CONTROLS.values() for name in names}
    assert controlled <= set(FEATURE_NAMES)
    assert not controlled & {"rule_precision_prior", "rule_rarity_fleet", "fleet_cooccurrence", "event_class_risk"}

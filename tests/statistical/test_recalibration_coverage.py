"""What recalibration on load is for: alpha on a host that is unlike the fleet, by simulation."""

import numpy as np
import pytest
from attacks.agent_place import model_document

from eguard.detection.feature_contract import FEATURE_NAMES, N_FEATURES
from eguard.detection.gate import CalibrationGroup, ConformalGate
from eguard.detection.model import load_model
from eguard.detection.recalibration import CalibrationRows, recalibrate
from eguard.estimators import conformal_threshold

pytestmark = pytest.mark.slow
DEPTH = FEATURE_NAMES.index("tree_depth")
ALPHA = 0.01


@pytest.fixture(scope="module")
def loaded():
    document = model_document("m", coefficient=0.0)
    document["parameters"]["coefficients"][DEPTH] = 1.0
    return load_model(document)


def rates(loaded, shift, hosts=400, kept=512, recent=2000):
    """Return false-positive rates of hosts whose logits lie `shift` deviations off the fleet's: before and after."""
    rng = np.random.default_rng([60, round(100 * shift) + 1000])
    before, after = [], []
    for _ in range(hosts):
        fleet = np.sort(loaded.score(features(rng.normal(0.0, 1.0, 5000))))
        threshold = conformal_threshold(fleet, ALPHA).threshold
        gate = ConformalGate({"pooled": CalibrationGroup(threshold, "calibrated", fleet)}, ALPHA, loaded.digest)
        rows = CalibrationRows(features(rng.normal(shift, 1.0, kept)), np.full(kept, -1, np.int8), [""] * kept)
        own = recalibrate(gate, loaded, rows).groups["pooled"].threshold
        scores = loaded.score(features(rng.normal(shift, 1.0, recent)))
        before.append(np.mean(scores > threshold))
        after.append(np.mean(scores > own))
    return np.mean(before), np.mean(after), np.std(after) / np.sqrt(hosts)


def features(depths):
    matrix = np.zeros((len(depths), N_FEATURES))
    matrix[:, DEPTH] = depths
    return matrix


@pytest.mark.parametrize("shift", [-0.4, 0.0, 0.3])
def test_a_hosts_rate_is_at_most_alpha_after_recalibration(loaded, shift):
    before, after, error = rates(loaded, shift)
    assert after <= ALPHA + 3 * error
    assert after >= 0.6 * ALPHA  # no detection is given away
    if shift > 0:
        assert before > 1.8 * ALPHA
    elif shift < 0:
        assert before < 0.5 * ALPHA


def test_a_host_far_off_is_bounded_and_not_blinded(loaded):
    """Two deviations: beyond the bound, so that more than alpha is flagged, and less than without."""
    before, after, _ = rates(loaded, 2.0, hosts=60)
    assert ALPHA < after < before

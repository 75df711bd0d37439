import itertools

import numpy as np
import pytest

from eguard.detection.confidence import Confidence, layer_confidence, raise_by_classifier

NAMES = ("indicator", "rule", "kill_chain", "beacon", "anomaly_high", "anomaly_medium")


def expected(indicator, rule, kill_chain, beacon, anomaly_high, anomaly_medium):
    """The contract's words, as a table to compare with."""
    if indicator:
        return Confidence.DEFINITE
    if rule and (kill_chain or anomaly_high):
        return Confidence.VERY_HIGH
    if rule or kill_chain or beacon:
        return Confidence.HIGH
    if anomaly_high:
        return Confidence.MEDIUM
    return Confidence.LOW if anomaly_medium else Confidence.NONE


def test_ladder_on_all_combinations():
    table = list(itertools.product([False, True], repeat=len(NAMES)))
    columns = {name: np.array(column) for name, column in zip(NAMES, zip(*table, strict=True), strict=True)}
    assert layer_confidence(**columns).tolist() == [expected(*row) for row in table]


@pytest.mark.parametrize("start", list(Confidence))
def test_the_classifier_raises_by_one_step_to_medium_at_least_and_never_lowers(start):
    before = np.array([start], np.int8)
    assert raise_by_classifier(before, np.array([False]))[0] == start
    after = raise_by_classifier(before, np.array([True]))[0]
    assert after == min(max(start + 1, Confidence.MEDIUM), Confidence.DEFINITE)

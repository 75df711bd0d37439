import dataclasses

import numpy as np
import pytest

from eguard.detection.fitted_tables import CLASS_RISK_INDEX, RULE_PRECISION_INDEX
from eguard.mlops.fitted_features import BASE_WEIGHT_UNITS, HALF_WEIGHT_COUNT, UNKNOWN_SHARE, FittedFeatures


def everything(data):
    return np.ones(len(data), bool)


def plain_share(data, units, key_rows):
    """The definition, spelt out with loops."""
    numerator, denominator, bases = 0.0, 0.0, []
    for unit in units:
        of_unit = data.units == unit
        bases.append((data.labels[of_unit] == 1).mean())
        rows = of_unit & key_rows
        if n := int(rows.sum()):
            weight = n / (n + HALF_WEIGHT_COUNT)
            numerator += weight * (data.labels[rows] == 1).mean()
            denominator += weight
    return (numerator + BASE_WEIGHT_UNITS * np.mean(bases)) / (denominator + BASE_WEIGHT_UNITS)


def test_a_rules_share_is_the_mean_of_other_units_shares(dataset):
    filled = FittedFeatures(dataset, everything(dataset)).fill(everything(dataset))
    for unit in range(5):
        others = [other for other in range(5) if other != unit]
        for rule in (0, 7, 9):
            rows = (dataset.units == unit) & (dataset.rules == rule)
            expected = plain_share(dataset, others, dataset.rules == rule)
            assert filled[rows, RULE_PRECISION_INDEX] == pytest.approx(expected)
        rows = dataset.units == unit
        expected = plain_share(dataset, others, dataset.event_class == 7)
        assert filled[rows, CLASS_RISK_INDEX] == pytest.approx(expected)


def test_a_units_own_labels_never_reach_its_features(dataset):
    before = FittedFeatures(dataset, everything(dataset)).fill(everything(dataset))
    own = dataset.units == 2
    turned = dataclasses.replace(dataset, labels=np.where(own, 1 - dataset.labels, dataset.labels).astype(np.int8))
    after = FittedFeatures(turned, everything(turned)).fill(everything(turned))
    assert np.array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).any()


def test_only_the_training_rows_labels_are_used(dataset):
    training = dataset.units != 4
    before = FittedFeatures(dataset, training).fill(everything(dataset))
    turned = dataclasses.replace(dataset, labels=np.where(training, dataset.labels, 1).astype(np.int8))
    assert np.array_equal(before, FittedFeatures(turned, training).fill(everything(turned)))


def test_the_shipped_tables_are_what_a_new_unit_sees(dataset):
    training = dataset.units != 4
    fitted = FittedFeatures(dataset, training)
    unseen = dataset.units == 4
    rules = [dataset.names.rules[rule] for rule in dataset.rules[unseen]]
    applied = fitted.tables().apply(dataset.features[unseen], dataset.event_class[unseen], rules)
    assert fitted.fill(unseen) == pytest.approx(applied, abs=1e-15)


def test_an_unheard_of_rule_gets_the_base_share(dataset):
    tables = FittedFeatures(dataset, everything(dataset)).tables()
    bases = [(dataset.labels[dataset.units == unit] == 1).mean() for unit in range(5)]
    assert tables.rule_precision_default == pytest.approx(np.mean(bases))
    one_rule_short = FittedFeatures(dataset, dataset.rules != 3).tables()
    assert dataset.names.rules[3] not in one_rule_short.rule_precision


def test_in_calendar_order_the_first_network_knows_nothing(dataset):
    fitted = FittedFeatures(dataset, everything(dataset), "calendar")
    filled = fitted.fill(everything(dataset))
    first, last = dataset.units == 0, dataset.units == 4
    assert set(filled[first, RULE_PRECISION_INDEX]) == {UNKNOWN_SHARE}
    apart = FittedFeatures(dataset, everything(dataset)).fill(everything(dataset))
    assert np.array_equal(filled[last], apart[last])
    rows = (dataset.units == 1) & (dataset.rules == 8)
    assert filled[rows, RULE_PRECISION_INDEX] == pytest.approx(plain_share(dataset, [0], dataset.rules == 8))


def test_later_labels_change_nothing_in_calendar_order(dataset):
    before = FittedFeatures(dataset, everything(dataset), "calendar").fill(everything(dataset))
    late = dataset.units >= 3
    turned = dataclasses.replace(dataset, labels=np.where(late, 1 - dataset.labels, dataset.labels).astype(np.int8))
    after = FittedFeatures(turned, everything(turned), "calendar").fill(everything(turned))
    early = dataset.units <= 3
    assert np.array_equal(before[early], after[early])


def test_uncounted_events_have_no_class_risk(dataset):
    classes = np.where(np.arange(len(dataset)) % 2, dataset.event_class, -1).astype(np.int8)
    mixed = dataclasses.replace(dataset, event_class=classes)
    filled = FittedFeatures(mixed, everything(mixed)).fill(everything(mixed))
    assert not filled[classes == -1, CLASS_RISK_INDEX].any()
    assert (filled[classes == 7, CLASS_RISK_INDEX] > 0).all()

import numpy as np
import pytest

from eguard.detection.fitted_tables import FittedTables
from eguard.errors import ModelError

JSON = {"class_risk": [0.1 * index for index in range(8)], "rule_precision": {"a": 0.9}, "rule_precision_default": 0.2}


def test_round_trip():
    assert FittedTables.from_json(JSON).to_json() == JSON


def test_apply_fills_its_two_columns_and_leaves_the_rest():
    rows = np.full((3, 43), 0.5)
    filled = FittedTables.from_json(JSON).apply(rows, np.array([0, 7, -1]), ["a", "b", "a"])
    assert filled[:, 7].tolist() == [0.0, pytest.approx(0.7), 0.0]
    assert filled[:, 41].tolist() == [0.9, 0.2, 0.9]
    assert (np.delete(filled, [7, 41], axis=1) == 0.5).all()
    assert (rows == 0.5).all()


@pytest.mark.parametrize(
    "change",
    [
        {"class_risk": [0.0] * 7},
        {"class_risk": [0.0] * 7 + [1.5]},
        {"class_risk": None},
        {"rule_precision": {"a": float("nan")}},
        {"rule_precision": []},
        {"rule_precision_default": -0.1},
        {"rule_precision_default": "high"},
    ],
)
def test_what_is_no_table_of_shares_is_refused(change):
    with pytest.raises(ModelError):
        FittedTables.from_json({**JSON, **change})

"""Whatever a sensor delivers, a feature row is finite, lies in [0, 1], and is the same in columns and one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.detection.feature_inputs import TEXT_INPUTS, FeatureInputs
from eguard.detection.features import extract_features, extract_one
from eguard.detection.fitted_tables import FittedTables

HOSTILE_TEXT = st.text(st.characters(), max_size=80) | st.sampled_from(
    ["\ud800", "\x00" * 40, "İ" * 30, ".", "..", "a" * 40_000, "\U0010ffff" * 20, "//\\\\", "ﬀ.ß"]
)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**6), 10**12).map(float)
NUMERIC = [name for name in FeatureInputs.__slots__ if name not in (*TEXT_INPUTS, "event_class")]
TABLES = FittedTables((0.1,) * 8, {"R": 0.7}, 0.2)


@st.composite
def hostile_inputs(draw):
    n = draw(st.integers(1, 4))
    inputs = FeatureInputs.empty(n)
    for name in draw(st.lists(st.sampled_from(NUMERIC), unique=True)):
        setattr(inputs, name, np.array(draw(st.lists(NUMBERS, min_size=n, max_size=n))))
    for name in TEXT_INPUTS:
        setattr(inputs, name, draw(st.lists(HOSTILE_TEXT, min_size=n, max_size=n)))
    inputs.event_class = np.array(draw(st.lists(st.integers(-1, 7), min_size=n, max_size=n)))
    return inputs


@settings(deadline=None)
@given(hostile_inputs())
def test_rows_are_finite_and_in_the_unit_interval(inputs):
    rows = extract_features(inputs, TABLES)
    assert np.all(np.isfinite(rows))
    assert np.all((rows >= 0.0) & (rows <= 1.0))


@settings(deadline=None)
@given(hostile_inputs())
def test_columns_equal_one_by_one(inputs):
    rows = extract_features(inputs, TABLES)
    singles = np.array([extract_one(inputs, row, TABLES) for row in range(len(inputs))])
    np.testing.assert_allclose(rows, singles, rtol=0, atol=1e-12)

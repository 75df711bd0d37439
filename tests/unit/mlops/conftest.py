"""A small sound corpus that tests of the gates spoil in one place."""

import numpy as np
import pandas as pd
import pytest

from eguard.detection.feature_contract import FEATURE_NAMES


def make_corpus(n=600):
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{index:05d}" for index in range(n)],
            "observed_at_unix": 1e9 + np.arange(n, dtype=float),
            "host_id": [f"h{index % 45}" for index in range(n)],
            "network": [f"n{index % 3}" for index in range(n)],
            "source": "ait",
            "rule_id": [f"r{index % 70}" for index in range(n)],
            "event_class": "alert",
            "label": pd.array((np.arange(n) % 4 == 0).astype(int), dtype="Int8"),
            "label_source": "shipped",
            "weight": 1.0,
            "severity": 0.5,
            "analyst": pd.Series([None] * n, dtype=object),
            "is_contested": False,
        }
    )
    frame["adjudicated_at_unix"] = frame["observed_at_unix"] + 86_400
    features = pd.DataFrame(rng.random((n, len(FEATURE_NAMES))), columns=list(FEATURE_NAMES))
    return pd.concat([frame, features], axis=1)


@pytest.fixture
def build_corpus():
    return make_corpus

"""Every attack against every aggregator at eight classes, to the last digits: the wire's dimension.

The table is made by ``python tests/golden/test_poison_table.py``; a change of it is a change of what the documents say.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from eguard.mlops.poison_attacks import ATTACKS
from eguard.mlops.poison_bounds import AGGREGATORS, clean_aggregate, max_liars, shift_bound
from eguard.mlops.poison_sweep import aggregates

TABLE = Path(__file__).with_name("poison_d8.json")
SHARES = (0.05, 0.10, 0.20, 0.30, 0.40, 0.49)
AGENTS = 200


def measured():
    """Total variation in the worst published direction, one fleet of 200 agents, Dirichlet of concentration 60."""
    mean = 0.5 ** np.arange(8)
    votes = np.random.default_rng(0).dirichlet(60 * mean / mean.sum(), size=AGENTS)
    table = {}
    for share in SHARES:
        liars = max_liars(AGENTS, share)
        honest = votes[: AGENTS - liars]
        for aggregator in AGGREGATORS:
            clean = clean_aggregate(honest, aggregator)
            for name, attack in ATTACKS.items():
                lies = attack(honest, liars, np.random.default_rng(1), attack.published(honest))
                stacked = np.stack([np.vstack([honest, votes]) for votes in lies], axis=1)
                moved = 0.5 * np.abs(aggregates(stacked, aggregator) - clean).sum(axis=1).max()
                table[f"{share:g} {aggregator} {name}"] = round(float(moved), 9)
            table[f"{share:g} {aggregator} bound"] = round(shift_bound(honest, liars, aggregator), 9)
    return table


@pytest.fixture(scope="module")
def golden():
    return json.loads(TABLE.read_text())


def test_the_table_is_as_recorded(golden):
    found = measured()
    assert found.keys() == golden.keys()
    assert found == pytest.approx(golden, abs=2e-8)


def test_no_cell_exceeds_its_bound(golden):
    for cell, moved in golden.items():
        share, aggregator, _ = cell.split()
        assert moved <= golden[f"{share} {aggregator} bound"] + 1e-8


def test_lie_beats_the_median_and_not_the_mean_at_a_tenth(golden):
    assert golden["0.1 trimmed_median lie"] > 5 * golden["0.1 mean lie"]
    assert golden["0.1 trimmed_median one-hot"] < 0.2 * golden["0.1 mean one-hot"]


if __name__ == "__main__":
    TABLE.write_text(json.dumps(measured(), indent=1) + "\n")

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from eguard.mlops.attack_steps import step_figures


def test_each_step_stands_against_all_that_is_no_attack(dataset):
    rows = dataset.units == 1
    scores = np.random.default_rng(0).random(len(dataset)) + 0.3 * dataset.labels
    figures = step_figures(dataset, rows, scores, 0.9)
    assert set(figures) == {"cracking", "dirb", "webshell"}
    for step, values in figures.items():
        kept = rows & ((dataset.labels == 0) | (dataset.steps == step))
        expected = average_precision_score(dataset.labels[kept], scores[kept], sample_weight=dataset.weights[kept])
        assert values["average_precision"] == pytest.approx(expected)
        found = rows & (dataset.steps == step)
        share = np.average(scores[found] >= 0.9, weights=dataset.weights[found])
        assert values["operating_recall"] == pytest.approx(share)
    assert figures["dirb"]["alerts"] == pytest.approx(200, abs=20)


def test_attacks_without_a_step_are_not_lost(dataset):
    import dataclasses

    unnamed = dataclasses.replace(dataset, steps=np.full(len(dataset), ""))
    figures = step_figures(unnamed, dataset.units == 0, np.ones(len(dataset)), 0.5)
    assert list(figures) == ["unnamed"]

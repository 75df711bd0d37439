"""The offline evaluation on five synthetic networks, end to end and in its parts."""

import json

import numpy as np
import pandas as pd
import pytest

from eguard.errors import ConfigError, GateFailedError
from eguard.mlops import corpus, evaluate, train
from eguard.mlops.dataset import load_dataset
from eguard.mlops.workspace import Workspace

TRAIN = train.TrainParams(
    resource_profile="tiny", l2_grid_points=2, bootstrap_replicates=20, boosting_leaf_nodes=(), l2_smallest=0.01
)
EVALUATE = evaluate.EvaluateParams(bootstrap_replicates=20, ablation_rows=2000, min_average_precision=0.1)


def prepared(folder, signals, **params):
    workspace = Workspace(folder)
    workspace.interim.mkdir(parents=True, exist_ok=True)
    signals.to_parquet(workspace.interim / "features.parquet")
    corpus.run(corpus.CorpusParams(**params), seed=0, workspace=workspace)
    train.run(TRAIN, seed=1, workspace=workspace)
    return workspace


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, small_signals):
    workspace = prepared(tmp_path_factory.mktemp("evaluate"), small_signals)
    return workspace, evaluate.run(EVALUATE, seed=1, workspace=workspace)


@pytest.fixture
def copied(evaluated, tmp_path):
    """Return the prepared workspace again, to be spoilt."""
    source, _ = evaluated
    workspace = Workspace(tmp_path)
    for name in (
        "data/processed/corpus.parquet",
        "models/signature-ml-model.json",
        "reports/train.json",
    ):
        path = workspace.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((source.root / name).read_bytes())
    return workspace


def test_the_headline_names_every_network_and_their_mean(evaluated):
    _, report = evaluated
    headline = report["headline"]
    assert list(headline) == ["n0", "n1", "n2", "n3", "n4", "mean"]
    values = [headline[f"n{index}"]["without_floods"] for index in range(5)]
    assert headline["mean"]["without_floods"] == pytest.approx(np.mean(values))
    for row in headline.values():
        low, high = row["without_floods_interval"]
        assert low <= row["without_floods"] <= high
        assert row["with_floods"] > row["without_floods"]  # floods are easy


def test_the_model_beats_both_baselines(evaluated):
    baselines = evaluated[1]["unseen_networks"]["baselines"]
    for baseline in baselines.values():
        assert baseline["model_minus_baseline"]["interval"][0] > 0
    chance = evaluated[1]["unseen_networks"]["mean_average_precision"]["chance"]
    assert baselines["severity"]["mean_average_precision"]["value"] == pytest.approx(chance)


def test_leaving_out_what_carries_the_figure_costs_most(evaluated):
    ablation = evaluated[1]["unseen_networks"]["without_feature_groups"]
    losses = {name: row["loss"]["value"] for name, row in ablation["without"].items() if "loss" in row}
    assert losses["context"] > 0.05
    assert losses["rule_precision_prior"] > 0.05
    assert ablation["without"]["text"]["is_constant"]


def test_steps_are_told_apart(evaluated):
    steps = evaluated[1]["unseen_networks"]["by_attack_step"]
    assert set(steps) == {"cracking", "dirb", "webshell"}
    for network in steps["webshell"].values():
        assert network["average_precision"] > network["base_rate"]


def test_the_holdout_is_the_one_that_training_set_aside(evaluated):
    workspace, report = evaluated
    assert report["holdout"]["units"] == json.loads((workspace.reports / "train.json").read_text())["holdout"]["units"]
    data = load_dataset(workspace.processed / "corpus.parquet")
    assert report["holdout"]["rows"] == (data.networks == 4).sum()


def test_signals_moved_to_the_ordinary_are_found_less(evaluated):
    rows = evaluated[1]["holdout"]["adversarial"]
    unmoved = rows[0]
    paced = [row for row in rows if row["moved"] == "pace"]
    assert (unmoved["moved"], unmoved["strength"]) == ("nothing", 0.0)
    assert [row["strength"] for row in paced] == [0.25, 0.5, 1.0]
    assert paced[-1]["average_precision"] < unmoved["average_precision"]
    assert all(
        row["average_precision"] == pytest.approx(unmoved["average_precision"])
        for row in rows
        if row["moved"] == "process tree"
    )


def test_the_plots_hold_a_curve_of_every_network(evaluated):
    workspace, _ = evaluated
    for name, axes in (
        ("pr", ("recall", "precision")),
        ("roc", ("false_positive_rate", "true_positive_rate")),
        ("reliability", ("predicted", "observed")),
    ):
        points = json.loads((workspace.reports / "plots" / f"{name}.json").read_text())
        assert {point["network"] for point in points} == {f"n{index}" for index in range(5)}
        assert all(0.0 <= point[axis] <= 1.0 for point in points for axis in axes)


def test_evaluating_twice_gives_the_same_bytes(evaluated):
    workspace, _ = evaluated
    path = workspace.reports / evaluate.REPORT_NAME
    before = path.read_bytes()
    evaluate.run(EVALUATE, seed=1, workspace=workspace)
    assert path.read_bytes() == before


def test_a_missed_gate_leaves_the_model_unpromoted(copied):
    report = evaluate.run(EVALUATE.model_copy(update={"min_roc_auc": 0.9999}), seed=1, workspace=copied)
    assert not report["promoted"]
    assert "holdout roc_auc" in [gate["name"] for gate in report["gates"] if not gate["passed"]]


def test_asked_to_it_fails_after_writing(copied):
    params = EVALUATE.model_copy(update={"min_roc_auc": 0.9999, "fail_on_threshold": True})
    with pytest.raises(GateFailedError, match="roc_auc"):
        evaluate.run(params, seed=1, workspace=copied)
    assert (copied.reports / evaluate.REPORT_NAME).exists()


def test_a_worse_model_than_before_is_a_regression(copied):
    model = json.loads((copied.models / "signature-ml-model.json").read_text())
    previous = copied.root / "previous" / "signature-ml-model.json"
    previous.parent.mkdir()
    previous.write_text(json.dumps(model))
    same = evaluate.run(EVALUATE, seed=1, workspace=copied)
    assert same["holdout"]["previous_model"]["drop"]["value"] == 0.0
    assert same["holdout"]["previous_model"]["mcnemar"]["p_value"] == 1.0
    worse = dict(
        model, parameters=dict(model["parameters"], coefficients=[-c for c in model["parameters"]["coefficients"]])
    )
    (copied.models / "signature-ml-model.json").write_text(json.dumps(worse))
    with pytest.raises(GateFailedError, match="drop"):
        evaluate.run(EVALUATE.model_copy(update={"fail_on_regression": True}), seed=1, workspace=copied)
    report = json.loads((copied.reports / evaluate.REPORT_NAME).read_text())
    assert report["holdout"]["previous_model"]["drop"]["value"] > 0.05


def test_a_previous_model_of_another_contract_is_not_compared(copied):
    previous = copied.root / "previous" / "signature-ml-model.json"
    previous.parent.mkdir()
    model = json.loads((copied.models / "signature-ml-model.json").read_text())
    previous.write_text(json.dumps(model | {"contract_sha256": "0" * 64}))
    report = evaluate.run(EVALUATE, seed=1, workspace=copied)
    assert not report["holdout"]["previous_model"]["is_comparable"]
    assert not report["promoted"]


def test_another_corpus_is_refused(copied):
    table = pd.read_parquet(copied.processed / "corpus.parquet")
    table[table["network"] != "n4"].to_parquet(copied.processed / "corpus.parquet")
    with pytest.raises(ConfigError, match="not the one"):
        evaluate.run(EVALUATE, seed=1, workspace=copied)


def test_permuted_labels_bring_every_headline_figure_to_chance(tmp_path, small_signals):
    workspace = prepared(tmp_path, small_signals, permute_labels=True)
    report = evaluate.run(EVALUATE, seed=1, workspace=workspace)
    networks = report["unseen_networks"]["networks"]
    for name, row in report["headline"].items():
        if name != "mean":
            base = networks[name]["without_floods"]["base_rate"]["value"]
            assert row["without_floods"] == pytest.approx(base, abs=0.1)
            assert networks[name]["without_floods"]["roc_auc"]["value"] == pytest.approx(0.5, abs=0.1)
    assert report["holdout"]["without_floods"]["roc_auc"]["value"] == pytest.approx(0.5, abs=0.1)
    assert not report["promoted"]

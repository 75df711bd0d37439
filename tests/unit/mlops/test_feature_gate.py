import json

import numpy as np
import pytest

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.errors import GateFailedError
from eguard.mlops.feature_gate import FeatureGateParams, judge_features, run
from eguard.mlops.workspace import Workspace


def failures(corpus, previous=None, **params):
    report = judge_features(corpus, FeatureGateParams(**params), previous)
    return {(failure["feature"], failure["reason"].split(" (")[0]) for failure in report["failures"]}


def test_sound_features_pass_and_are_described(build_corpus):
    report = judge_features(build_corpus(), FeatureGateParams())
    assert report["passed"]
    assert set(report["features"]) == set(FEATURE_NAMES)
    figures = report["features"]["z1_ioc_hit"]
    assert sum(figures["histogram"]) == 600
    assert 0.4 < figures["auroc"] < 0.6
    assert figures["by_source"]["ait"]["non_default_fraction"] == 1.0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_feature_that_tells_the_label_leaks(build_corpus, sign):
    corpus = build_corpus()
    corpus["dns_entropy"] = 0.5 + sign * 0.2 * corpus["label"].astype(float)
    assert failures(corpus) == {("dns_entropy", "separates the classes alone")}


def test_a_constant_feature_needs_a_reason(build_corpus):
    corpus = build_corpus()
    corpus["yara_hit_count"] = 0.0
    assert failures(corpus) == {("yara_hit_count", "never varies on any source")}
    assert failures(corpus, may_be_constant={"yara_hit_count": "no engine is loaded"}) == set()


def test_varying_in_one_source_is_enough(build_corpus):
    corpus = build_corpus()
    corpus.loc[:9, "source"] = "endpoint"
    corpus["tree_depth"] = np.where(corpus["source"] == "endpoint", np.arange(len(corpus)) % 2, 0.0)
    assert failures(corpus) == set()


def test_an_exception_for_no_feature_is_refused(build_corpus):
    assert failures(build_corpus(), may_be_constant={"colour": "why not"}) == {
        ("colour", "is listed in may_be_constant but is no feature")
    }


def test_missing_values_are_bounded(build_corpus):
    corpus = build_corpus()
    corpus.loc[:40, "tree_depth"] = np.nan
    assert failures(corpus) == {("tree_depth", "is missing in 6.8% of the rows")}
    assert failures(corpus, max_missing_fraction=0.1) == set()
    assert failures(build_corpus().drop(columns="tree_depth")) == {("tree_depth", "is not in the corpus")}


def test_drift_is_measured_against_the_last_run_of_the_same_contract(build_corpus):
    before = judge_features(build_corpus(), FeatureGateParams())
    corpus = build_corpus()
    corpus["rule_burst"] = corpus["rule_burst"] * 0.3
    moved = failures(corpus, before)
    assert {feature for feature, _ in moved} == {"rule_burst"}
    assert failures(corpus, {**before, "contract_sha256": "another"}) == set()
    assert failures(build_corpus(), before) == set()


def test_live_data_must_span_two_weeks(build_corpus):
    corpus = build_corpus()
    corpus["source"] = "live"
    assert {feature for feature, _ in failures(corpus)} == {"(live data)"}
    corpus["observed_at_unix"] *= 1.01
    corpus["observed_at_unix"] = np.linspace(1e9, 1e9 + 15 * 86_400, len(corpus))
    assert failures(corpus) == set()


def test_the_snapshot_is_written_before_the_refusal(build_corpus, tmp_path):
    workspace = Workspace(tmp_path)
    workspace.processed.mkdir(parents=True)
    corpus = build_corpus()
    corpus["yara_hit_count"] = 0.0
    corpus.to_parquet(workspace.processed / "corpus.parquet")
    with pytest.raises(GateFailedError, match="yara_hit_count"):
        run(FeatureGateParams(), seed=0, workspace=workspace)
    assert json.loads((workspace.reports / "feature-snapshot.json").read_text())["failures"]

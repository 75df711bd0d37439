import json

import numpy as np
import pandas as pd
import pytest

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.errors import ConfigError, GateFailedError
from eguard.mlops.labels import LabelGateParams, judge_labels, run
from eguard.mlops.workspace import Workspace


def failed(corpus, **params):
    report = judge_labels(corpus, LabelGateParams(**params))
    return {check["name"] for check in report["checks"] if not check["passed"]}, report


def test_a_sound_corpus_passes(build_corpus):
    names, report = failed(build_corpus())
    assert names == set()
    assert report["passed"]
    assert report["schema_failures"] == []
    assert report["by_network"]["n0"]["attacks"] + report["by_network"]["n0"]["not_attacks"] == 200


def unresolved(corpus):
    corpus.loc[:100, "label"] = pd.NA


def late(corpus):
    corpus.loc[:40, "adjudicated_at_unix"] += 6 * 86_400


def contested(corpus):
    corpus.loc[:40, "is_contested"] = True


def one_host(corpus):
    corpus["host_id"] = "h"


def one_rule(corpus):
    corpus["rule_id"] = "r"


def no_attacks(corpus):
    corpus["label"] = pd.array([0] * len(corpus), dtype="Int8")


def only_attacks(corpus):
    corpus["label"] = pd.array([1] * len(corpus), dtype="Int8")


def twins_of_opposite_labels(corpus):
    shared = ["host_id", "rule_id", "observed_at_unix", *FEATURE_NAMES]
    for row in range(0, 24, 4):
        corpus.loc[row + 1, shared] = corpus.loc[row, shared].to_numpy()


def one_analyst_labels_nearly_all(corpus):
    corpus["analyst"] = ["mallory" if index % 16 else f"a{index % 5}" for index in range(len(corpus))]


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (unresolved, {"unresolved_fraction"}),
        (late, {"latency_p95_days"}),
        (contested, {"contested_fraction"}),
        (one_host, {"hosts"}),
        (one_rule, {"rules"}),
        (no_attacks, {"positive"}),
        (only_attacks, {"negative"}),
        (twins_of_opposite_labels, {"opposite_duplicate_fraction"}),
        (one_analyst_labels_nearly_all, {"largest_analyst_share_positive", "largest_analyst_share_negative"}),
    ],
)
def test_each_defect_fails_its_own_check(build_corpus, spoil, names):
    corpus = build_corpus()
    spoil(corpus)
    assert failed(corpus)[0] == names


def test_too_few_rows_fail_by_number(build_corpus):
    names, report = failed(build_corpus(300))
    assert names == {"adjudicated"}
    (check,) = [check for check in report["checks"] if check["name"] == "adjudicated"]
    assert (check["value"], check["bound"]) == (300, 320)


@pytest.mark.parametrize(
    ("column", "value"),
    [("z1_ioc_hit", 1.5), ("weight", 0.0), ("severity", -0.1), ("observed_at_unix", -1.0), ("c2_beacon_mi", np.nan)],
)
def test_rows_outside_the_schema_are_named(build_corpus, column, value):
    corpus = build_corpus()
    corpus.loc[3, column] = value
    failures = judge_labels(corpus, LabelGateParams())["schema_failures"]
    assert {failure["column"] for failure in failures} == {column}


def test_repeated_ids_are_named(build_corpus):
    corpus = build_corpus()
    corpus.loc[1, "sample_id"] = corpus.loc[0, "sample_id"]
    assert judge_labels(corpus, LabelGateParams())["schema_failures"][0]["column"] == "sample_id"


def test_the_report_is_written_before_the_refusal(build_corpus, tmp_path):
    workspace = Workspace(tmp_path)
    workspace.processed.mkdir(parents=True)
    build_corpus(300).to_parquet(workspace.processed / "corpus.parquet")
    with pytest.raises(GateFailedError, match="adjudicated"):
        run(LabelGateParams(), seed=0, workspace=workspace)
    assert not json.loads((workspace.reports / "label-quality.json").read_text())["passed"]


def test_a_missing_corpus_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="no corpus"):
        run(LabelGateParams(), seed=0, workspace=Workspace(tmp_path))

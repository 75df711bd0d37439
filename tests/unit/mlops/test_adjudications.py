import json

import pandas as pd
import pytest

from eguard.errors import CorruptFileError
from eguard.mlops.adjudications import join_adjudications, read_adjudications


def verdict(sample, said, analyst, at):
    return {"sample_id": sample, "verdict": said, "analyst": analyst, "adjudicated_at_unix": at}


def write(path, *verdicts):
    path.write_text("".join(json.dumps(row) + "\n" for row in verdicts))
    return path


@pytest.fixture
def signals():
    return pd.DataFrame(
        {
            "sample_id": ["a", "b", "c"],
            "observed_at_unix": [100.0, 200.0, 300.0],
            "label": pd.array([0, None, None], dtype="Int8"),
            "label_source": pd.Categorical(["ait_labels", "unresolved", "unresolved"]),
        }
    )


def test_without_verdicts_shipped_labels_count_a_delay_later(signals, tmp_path):
    joined = join_adjudications(signals, tmp_path / "none.ndjson", shipped_delay_seconds=50.0)
    assert joined["adjudicated_at_unix"].fillna(-1).tolist() == [150.0, -1, -1]
    assert joined["analyst"].tolist() == [None, None, None]
    assert joined["n_verdicts"].tolist() == [1, 0, 0]


def test_the_latest_verdict_counts(signals, tmp_path):
    path = write(
        tmp_path / "feedback.ndjson",
        verdict("b", "benign", "ann", 900.0),
        verdict("b", "true_positive", "bob", 800.0),
        verdict("c", "false_positive", "bob", 700.0),
        verdict("unknown", "benign", "bob", 700.0),
    )
    joined = join_adjudications(signals, path, shipped_delay_seconds=0.0).set_index("sample_id")
    assert joined["label"].tolist() == [0, 0, 0]
    assert joined.loc["b", "analyst"] == "ann"
    assert joined.loc["b", "adjudicated_at_unix"] == 900.0
    assert joined["is_contested"].tolist() == [False, True, False]
    assert joined["n_verdicts"].tolist() == [1, 2, 1]
    assert joined["label_source"].tolist() == ["ait_labels", "analyst_feedback", "analyst_feedback"]


def test_a_verdict_overrules_a_shipped_label(signals, tmp_path):
    path = write(tmp_path / "feedback.ndjson", verdict("a", "true_positive", "ann", 5.0))
    joined = join_adjudications(signals, path, shipped_delay_seconds=0.0)
    assert joined.loc[0, "label"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [("{}", "line 2"), ("not json", "line 2"), (json.dumps(verdict("a", "perhaps", "ann", 1.0)), "perhaps")],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "feedback.ndjson"
    path.write_text(json.dumps(verdict("a", "benign", "ann", 1.0)) + "\n" + line + "\n")
    with pytest.raises(CorruptFileError, match=message):
        read_adjudications(path)

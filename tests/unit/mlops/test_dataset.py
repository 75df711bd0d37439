import numpy as np
import pandas as pd
import pytest

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.errors import ConfigError
from eguard.mlops import corpus
from eguard.mlops.dataset import UNRESOLVED, independent_units, load_dataset


def test_codes_stand_for_their_names(workspace_of, build_signals):
    workspace = workspace_of(build_signals())
    corpus.run(corpus.CorpusParams(), seed=0, workspace=workspace)
    data = load_dataset(workspace.processed / "corpus.parquet")
    table = pd.read_parquet(workspace.processed / "corpus.parquet")
    for codes, names, column in (
        (data.hosts, data.names.hosts, "host_id"),
        (data.rules, data.names.rules, "rule_id"),
        (data.networks, data.names.networks, "network"),
    ):
        assert [names[code] for code in codes] == table[column].astype(str).tolist()
        assert list(names) == sorted(names)
    assert data.names.units == ("n0", "n1", "n2", "n3", "n4")
    assert data.features[:, FEATURE_NAMES.index("rule_burst")].tolist() == table["rule_burst"].tolist()
    assert set(data.event_class.tolist()) == {7}


def test_networks_that_share_a_host_are_one_unit():
    hosts, networks = np.array([0, 1, 2, 3, 0]), np.array([0, 1, 2, 3, 2])
    units, names = independent_units(hosts, networks, tuple("abcd"), tuple("wxyz"))
    assert units[0] == units[2] == units[4]
    assert names == ("w", "x", "z")


def test_with_fewer_than_three_sites_hosts_are_the_units():
    units, names = independent_units(np.array([2, 0, 1]), np.array([0, 0, 1]), tuple("abc"), ("x", "y"))
    assert names == ("a", "b", "c")
    assert units.tolist() == [2, 0, 1]


def test_sampling_down_keeps_the_number_of_signals(workspace_of, build_signals):
    workspace = workspace_of(build_signals())
    corpus.run(corpus.CorpusParams(), seed=0, workspace=workspace)
    path = workspace.processed / "corpus.parquet"
    whole, part = load_dataset(path), load_dataset(path, 1500)
    assert len(part) <= 1500 < len(whole)
    assert part.weights.sum() == pytest.approx(whole.weights.sum(), rel=1e-9)
    again = load_dataset(path, 1500)
    assert np.array_equal(again.features, part.features)


def test_unresolved_rows_are_no_training_rows(workspace_of, build_signals):
    signals = build_signals()
    signals.loc[:49, "label"] = None
    workspace = workspace_of(signals)
    corpus.run(corpus.CorpusParams(), seed=0, workspace=workspace)
    data = load_dataset(workspace.processed / "corpus.parquet")
    assert (data.labels == UNRESOLVED).sum() == np.isnan(data.adjudicated_unix).sum() > 0
    assert len(data.labelled()) == (data.labels != UNRESOLVED).sum()


def test_a_missing_corpus_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no corpus"):
        load_dataset(tmp_path / "corpus.parquet")

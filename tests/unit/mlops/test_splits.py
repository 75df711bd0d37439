import dataclasses

import numpy as np
import pytest

from eguard.errors import ConfigError
from eguard.mlops.dataset import Vocabulary
from eguard.mlops.splits import plan_folds, plan_holdout


def single_network(dataset):
    """The same rows as hosts of one network: hosts become the units."""
    names = dataset.names
    times = dataset.time_unix - 1e6 * dataset.networks
    return dataclasses.replace(
        dataset,
        networks=np.zeros_like(dataset.networks),
        units=dataset.hosts,
        time_unix=times,
        names=Vocabulary(names.hosts, ("n0",), names.rules, names.hosts),
    )


def assert_disjoint(data, one, other):
    assert not (one & other).any()
    assert not set(data.hosts[one]) & set(data.hosts[other])


def test_the_latest_network_is_held_out(dataset):
    split = plan_holdout(dataset, 0.15)
    assert split.units == ("n4",)
    assert_disjoint(dataset, split.held_out, split.training)
    assert dataset.time_unix[split.training].max() < split.start_unix["ait"] <= dataset.time_unix[split.held_out].min()
    assert split.fraction == pytest.approx((dataset.networks == 4).mean())


def test_networks_are_added_until_the_fraction_is_reached(dataset):
    split = plan_holdout(dataset, 0.35)
    assert split.units == ("n3", "n4")
    assert split.fraction >= 0.35


def test_training_rows_later_than_the_holdout_are_left_out(dataset):
    late = (dataset.networks == 1) & (np.arange(len(dataset)) % 2 == 0)
    moved = dataclasses.replace(dataset, time_unix=np.where(late, dataset.time_unix + 1e8, dataset.time_unix))
    split = plan_holdout(moved, 0.15)
    assert not (split.training & late).any()
    assert split.to_json()["rows_in_neither"] == late.sum()


def test_each_source_has_its_own_latest_units(dataset):
    sources = np.where(dataset.networks <= 1, "endpoint", "ait")
    split = plan_holdout(dataclasses.replace(dataset, sources=sources), 0.2)
    assert split.units == ("n1", "n4")
    assert set(split.start_unix) == {"ait", "endpoint"}
    assert (split.training == np.isin(dataset.networks, [0, 2, 3])).all()


def test_a_single_network_is_split_by_hosts_and_time(dataset):
    data = single_network(dataset)
    split = plan_holdout(data, 0.2)
    assert_disjoint(data, split.held_out, split.training)
    assert data.time_unix[split.training].max() < data.time_unix[split.held_out].min()


def test_a_side_without_both_labels_is_refused(dataset):
    only_attacks = np.where(dataset.networks == 4, 1, dataset.labels).astype(np.int8)
    with pytest.raises(ConfigError, match="holdout"):
        plan_holdout(dataclasses.replace(dataset, labels=only_attacks), 0.15)


@pytest.mark.parametrize("k", [5, 7, 12])
def test_folds_score_each_row_once_by_models_without_its_network(dataset, k):
    training = dataset.networks != 4
    folds = plan_folds(dataset, training, k)
    assert len(folds) == k
    times_scored = sum(fold.validation.astype(int) for fold in folds)
    assert np.array_equal(times_scored, training.astype(int))
    for fold in folds:
        assert fold.validation.any()
        assert_disjoint(dataset, fold.validation, fold.training)
        assert not set(dataset.networks[fold.validation]) & set(dataset.networks[fold.training])
        assert not (fold.training & ~training).any()
    hosts_of_folds = [set(dataset.hosts[fold.validation]) for fold in folds]
    assert sum(map(len, hosts_of_folds)) == len(set.union(*hosts_of_folds))


def test_many_hosts_are_packed_into_even_folds(dataset):
    data = single_network(dataset)
    folds = plan_folds(data, np.ones(len(data), bool), 5)
    sizes = [fold.validation.sum() for fold in folds]
    assert max(sizes) < 1.4 * min(sizes)
    for fold in folds:
        assert_disjoint(data, fold.validation, fold.training)


def test_too_few_hosts_are_refused(dataset):
    with pytest.raises(ConfigError, match="too few"):
        plan_folds(dataset, np.isin(dataset.networks, [0, 1]), 40)
    with pytest.raises(ConfigError, match="two units"):
        plan_folds(dataset, dataset.networks == 0, 5)

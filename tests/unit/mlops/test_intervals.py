import numpy as np
import pytest

from eguard.mlops.intervals import Estimate, HostSample, bootstrap_hosts, difference, mean_estimate, report_metrics
from eguard.mlops.metrics import average_precision, base_rate


def sample_of_hosts(n_hosts=8, rows=60, seed=1):
    rng = np.random.default_rng(seed)
    hosts = np.repeat(np.arange(n_hosts), rows)
    labels = (rng.random(hosts.size) < 0.1 + 0.05 * hosts).astype(np.int8)
    scores = np.round(rng.normal(labels * 0.7, 1.0), 1)
    return HostSample(labels, scores, rng.integers(1, 4, hosts.size).astype(float), hosts)


def measures(counts):
    return {"ap": average_precision(counts), "rate": base_rate(counts)}


def test_replicates_equal_a_loop_over_drawn_hosts():
    sample = sample_of_hosts()
    estimates = bootstrap_hosts(sample, measures, np.random.default_rng(3), 20)
    draws = np.random.default_rng(3).multinomial(8, np.full(8, 1 / 8), 20)
    for replicate, draw in enumerate(draws):
        rows = np.concatenate([np.flatnonzero(sample.hosts == host) for host, n in enumerate(draw) for _ in range(n)])
        plain = measures(sample.take(rows).tally())
        for name, estimate in estimates.items():
            assert estimate.replicates[replicate] == pytest.approx(float(plain[name]), abs=1e-12)


def test_blocks_change_nothing(monkeypatch):
    sample = sample_of_hosts()
    whole = bootstrap_hosts(sample, measures, np.random.default_rng(3), 25)
    monkeypatch.setattr("eguard.mlops.intervals._BLOCK_CELLS", 100)
    parts = bootstrap_hosts(sample, measures, np.random.default_rng(3), 25)
    assert np.allclose(whole["ap"].replicates, parts["ap"].replicates, rtol=0, atol=1e-12)


def test_the_value_is_that_of_the_whole_sample():
    sample = sample_of_hosts()
    estimates = bootstrap_hosts(sample, measures, np.random.default_rng(3), 5)
    assert estimates["ap"].value == float(average_precision(sample.tally()))


def test_hosts_that_differ_widen_the_interval():
    hosts = np.repeat(np.arange(10), 100)
    scores, weights = np.zeros(1000), np.ones(1000)
    even = HostSample((np.arange(1000) % 10 == 0).astype(np.int8), scores, weights, hosts)
    one_host = HostSample((hosts == 0).astype(np.int8), scores, weights, hosts)

    def width(sample):
        low, high = bootstrap_hosts(sample, measures, np.random.default_rng(0), 400)["rate"].interval()
        return high - low

    assert width(even) == pytest.approx(0.0, abs=1e-12)
    assert width(one_host) > 0.2


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(200):
        shares = rng.beta(4, 16, 40)  # mean 0.2
        hosts = np.repeat(np.arange(40), 50)
        labels = (rng.random(2000) < shares[hosts]).astype(np.int8)
        sample = HostSample(labels, np.zeros(2000), np.ones(2000), hosts)
        low, high = bootstrap_hosts(sample, measures, rng, 200)["rate"].interval()
        covered += low <= 0.2 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_draws_without_an_attack_are_left_out_of_the_interval():
    hosts = np.repeat([0, 1], 50)
    labels = np.zeros(100, np.int8)
    labels[:5] = 1
    estimate = bootstrap_hosts(HostSample(labels, np.arange(100.0), np.ones(100), hosts), measures,
                               np.random.default_rng(0), 60)["ap"]  # fmt: skip
    assert np.isnan(estimate.replicates).any()
    assert estimate.interval() is not None


def test_no_answer_is_null():
    assert Estimate(np.nan, np.full(3, np.nan)).to_json() == {"value": None, "interval": None}


def test_means_and_differences_are_formed_replicate_by_replicate():
    first, second = Estimate(0.2, np.array([0.1, 0.3])), Estimate(0.6, np.array([0.5, 0.9]))
    assert mean_estimate([first, second]).replicates.tolist() == pytest.approx([0.3, 0.6])
    assert difference(second, first).replicates.tolist() == pytest.approx([0.4, 0.6])


def test_a_report_of_no_rows_is_empty():
    none = sample_of_hosts().take(np.zeros(480, bool))
    assert report_metrics(none, threshold=0.5, rng=np.random.default_rng(0), n_replicates=5) == {}

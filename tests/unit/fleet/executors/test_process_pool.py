"""A pool of processes: the results of this process, in order, also when workers die."""

import os
import signal
from functools import partial

import numpy as np
import pytest

from eguard.errors import ConfigError, FleetStoreError
from eguard.fleet.blocks import VOTE, Block, aggregate_block
from eguard.fleet.executors import EngineOptions, InProcess, open_executor
from eguard.fleet.executors.process_pool import MAX_RESTARTS, ProcessPool
from eguard.fleet.kernel import AggregationRules

RULES = AggregationRules()


def make_block(number, keys=3, voters=6):
    rng = np.random.default_rng(number)
    records = np.zeros(keys * voters, dtype=VOTE)
    records["samples"] = rng.integers(20, 500, len(records))
    records["probabilities"] = rng.dirichlet(np.full(8, 0.8), len(records))
    records["interarrival"] = rng.normal(3.0, 1.0, len(records))
    records["payload"] = np.nan
    records["expiry_hour"] = rng.integers(1000, 2000, len(records))
    return Block(
        keys=[f"p{number:02d}-{key}:init" for key in range(keys)],
        starts=np.arange(keys) * voters,
        records=records,
        tokens=rng.integers(-1, 2, len(records)),
    )


def told(results):
    """Return what results say, arrays as bytes: equal means equal to the last bit."""
    return [
        (
            [(each.distribution.tobytes(), *each[:1], *each[2:]) for each in found.result.aggregates],
            found.result.tallies,
            found.expiry_hours,
        )
        for found in results
    ]


@pytest.fixture(scope="module")
def blocks():
    return [make_block(number) for number in range(20)]


@pytest.fixture(scope="module")
def wanted(blocks):
    return told(InProcess().aggregate(blocks, RULES))


def test_a_pool_gives_the_results_of_this_process_and_takes_few_blocks_ahead(blocks, wanted):
    taken = []

    def take():
        for number, block in enumerate(blocks):
            taken.append(number)
            yield block

    found = []
    with open_executor(EngineOptions(workers=2)) as pool:
        assert isinstance(pool, ProcessPool)
        for result in pool.aggregate(take(), RULES):
            found.append(result)
            assert len(taken) <= len(found) + 2
    assert told(found) == wanted


def test_blocks_of_a_worker_that_died_are_done_again(blocks, wanted):
    def take():
        for number, block in enumerate(blocks):
            if number == 8:
                for worker in list(pool._pool._processes):
                    os.kill(worker, signal.SIGKILL)
            yield block

    with ProcessPool(1) as pool:
        assert told(pool.aggregate(take(), RULES)) == wanted


def test_workers_that_die_on_every_block_end_the_cycle(blocks, monkeypatch):
    monkeypatch.setattr("eguard.fleet.executors.aggregate_block", die)
    with ProcessPool(1) as pool, pytest.raises(FleetStoreError, match="again and again") as caught:
        list(pool.aggregate(blocks[:1], RULES))
    assert caught.value.context["reason"] == "engine_unavailable"
    assert "EGUARD_AGGREGATION_WORKERS" in caught.value.remedy
    assert pool._restarts == MAX_RESTARTS + 1


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_error_of_the_work_is_not_taken_for_a_dead_worker(blocks):
    bad = make_block(99)
    bad.records["probabilities"][3] = np.nan
    with ProcessPool(1) as pool:
        with pytest.raises(FleetStoreError, match="p99-0:init") as caught:
            list(pool.aggregate([bad], RULES))
        assert caught.value.context["reason"] == "invalid_votes"
        assert len(list(pool.aggregate(blocks[:2], RULES))) == 2


def test_expiries_are_the_earliest_of_each_key():
    block = make_block(1)
    found = aggregate_block(block, RULES)
    hours = block.records["expiry_hour"]
    assert found.expiry_hours == [min(hours[start : start + 6]) for start in block.starts]
    assert found.votes == len(block.records)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"engine": "spark"}, "spark"),
        ({"workers": 0}, "workers"),
        ({"engine": "dask"}, "EGUARD_DASK_ADDRESS"),
        ({"engine": "dask", "address": "tcp://127.0.0.1:8786"}, "EGUARD_DASK_ADDRESS"),
        ({"engine": "dask", "address": "tls://127.0.0.1:8786"}, "EGUARD_DASK_TLS_CA"),
    ],
)
def test_options_that_cannot_work_are_refused(options, named):
    with pytest.raises(ConfigError, match=named):
        EngineOptions(**options)


def test_certificates_that_are_not_there_are_named(tmp_path):
    certificate = partial(EngineOptions, engine="dask", address="tls://127.0.0.1:8786")
    with pytest.raises(ConfigError, match=r"missing\.pem") as caught:
        certificate(ca=tmp_path / "missing.pem")
    assert "EGUARD_DASK_TLS_CA" in caught.value.remedy

"""One fleet, aggregated in this process, by a pool of processes and on a Dask cluster with TLS: one generation."""

import datetime as dt
import os
import shutil
import signal
from contextlib import ExitStack

import numpy as np
import pytest
import trustme
from distributed import LocalCluster
from distributed.security import Security

from eguard.clock import SimulatedClock
from eguard.errors import FleetStoreError
from eguard.fleet import FleetStore
from eguard.fleet.executors import EngineOptions, dask_cluster
from eguard.wire import BaselineRow, ContinuousMoments, Moments, distribution_from_vector

KEYS = [f"p{number:02d}:init" for number in range(30)]


def upload(store, agent, keys, seq):
    rng = np.random.default_rng((agent, seq))
    rows = []
    for key in keys:
        counts = rng.multinomial(300, rng.dirichlet(np.full(8, 0.6)))
        moments = ContinuousMoments(payload=Moments(count=40, mean=float(rng.normal(5.0, 1.0)), m2=1.0))
        rows.append(
            BaselineRow(
                process_key=key,
                event_distribution=distribution_from_vector(counts / 300),
                sample_count=300,
                entropy_threshold=3.0,
                learned_at_unix=0.0,
                continuous=moments,
                seq=seq,
            )
        )
    store.upsert_baselines(f"agent-{agent:02d}", "first", rows)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dask")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name, issuer in (("ours", authority), ("stranger", stranger)):
        issued = issuer.issue_cert("127.0.0.1", not_after=dt.datetime(2040, 1, 1, tzinfo=dt.UTC))
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        with (folder / f"{name}.pem").open("wb") as file:
            file.write(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return folder


@pytest.fixture(scope="module")
def cluster(certificates):
    security = Security(
        require_encryption=True,
        tls_ca_file=str(certificates / "ca.pem"),
        **{
            f"tls_{role}_{kind}": str(certificates / f"ours.{ending}")
            for role in ("scheduler", "worker", "client")
            for kind, ending in (("cert", "pem"), ("key", "key"))
        },
    )
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        security=security,
        protocol="tls://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as made:
        yield made


def options(cluster, certificates, who="ours"):
    return EngineOptions(
        engine="dask",
        address=cluster.scheduler_address,
        ca=certificates / "ca.pem",
        certificate=certificates / f"{who}.pem",
        key=certificates / f"{who}.key",
    )


@pytest.fixture
def stores(migrated_sqlite, tmp_path):
    """Three stores with the same votes."""
    with ExitStack() as opened:
        made = []
        for number in range(3):
            path = shutil.copy(migrated_sqlite, tmp_path / f"{number}.db")
            made.append(opened.enter_context(FleetStore(f"sqlite:///{path}", SimulatedClock(1e9))))
            for agent in range(8):
                upload(made[-1], agent, KEYS, 1)
        yield made


def test_all_engines_publish_identical_generations(stores, cluster, certificates, monkeypatch):
    monkeypatch.setattr("eguard.fleet.vote_spool.BLOCK_VOTES", 16)  # many blocks
    monkeypatch.setattr("eguard.fleet.shared_reading.SMALLEST_TABLE", 0)  # and the pool's processes read
    engines = [EngineOptions(), EngineOptions(workers=2), options(cluster, certificates)]
    for changed in (None, KEYS[3:9]):
        reports = []
        for store, engine in zip(stores, engines, strict=True):
            if changed:
                upload(store, 5, changed, 2)
            reports.append(store.aggregate(engine=engine))
        assert reports[0] == reports[1] == reports[2]
        assert reports[0].recomputed_keys == len(changed or KEYS)
        assert reports[0].aggregated == len(KEYS)
        details = [store.fleet_details() for store in stores]
        assert details[0] == details[1] == details[2]


def test_work_of_a_worker_that_dies_is_done_by_another(stores, cluster, certificates, monkeypatch):
    monkeypatch.setattr("eguard.fleet.vote_spool.BLOCK_VOTES", 16)
    wanted = stores[0].aggregate()
    killed = []

    def kill_one(label, done, _total):
        if label == "aggregate" and done and not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    assert stores[1].aggregate(engine=options(cluster, certificates), progress=kill_one) == wanted
    assert killed
    assert stores[0].fleet_details() == stores[1].fleet_details()


def test_a_cluster_that_does_not_answer_is_named_and_the_generation_stays(stores, certificates, monkeypatch):
    monkeypatch.setattr(dask_cluster, "CONNECT_SECONDS", 0.5)
    store = stores[0]
    store.aggregate()
    nobody = EngineOptions(
        "dask", 1, "tls://127.0.0.1:9", *(certificates / n for n in ("ca.pem", "ours.pem", "ours.key"))
    )
    with pytest.raises(FleetStoreError, match=r"tls://127\.0\.0\.1:9") as caught:
        store.aggregate(engine=nobody)
    assert caught.value.context["reason"] == "engine_unavailable"
    assert "EGUARD_DASK_ADDRESS" in caught.value.remedy
    assert store.current_generation() == 1


def test_a_certificate_of_another_authority_is_not_accepted(stores, cluster, certificates, monkeypatch):
    monkeypatch.setattr(dask_cluster, "CONNECT_SECONDS", 1.0)
    with pytest.raises(FleetStoreError) as caught:
        stores[0].aggregate(engine=options(cluster, certificates, who="stranger"))
    assert caught.value.context["reason"] == "engine_unavailable"


def test_workers_of_another_version_are_refused(stores, cluster, certificates, monkeypatch):
    ours = dask_cluster.versions
    monkeypatch.setattr(dask_cluster, "_own_versions", lambda: {**ours(), "eguard": "0.0.9"})
    with pytest.raises(FleetStoreError, match=r"0\.0\.9") as caught:
        stores[0].aggregate(engine=options(cluster, certificates))
    assert caught.value.context["reason"] == "engine_versions"

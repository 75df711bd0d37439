"""One fleet aggregated by each engine: in one process, in two, and by a Dask cluster with two workers over mutual TLS.

Scheduler and workers are programs of their own on this machine, started before the clock is. With Dask the server alone
reads the votes and workers compute, so on one machine it costs more than it brings: what is measured here is the price.
All three have to publish the same rows to the last bit, or the run fails.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import trustme
from distributed import Client, Security

from benchmarks._fleet_database import KEYS, add_agents

AGENTS: Final = 5_000
WORKERS: Final = 2
START_SECONDS: Final = 60.0

_EGUARD: Final = "import sys; from eguard.cli.app import main; sys.exit(main())"
_DASK: Final = "import sys; from dask.__main__ import main; sys.exit(main())"


def run() -> list[dict[str, Any]]:
    """Return the seconds of a full aggregation by each engine; the peer of each is one process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "fleet.sqlite"
        add_agents(source, range(AGENTS))
        with _cluster(folder) as settings:
            measured = {
                "one process": _aggregate(source, "--workers", "1"),
                f"{WORKERS} processes": _aggregate(source, "--workers", str(WORKERS)),
                f"Dask, {WORKERS} workers": _aggregate(source, "--engine", "dask", settings=settings),
            }
    if len({published for _, published in measured.values()}) != 1:
        raise RuntimeError("the engines published different generations")
    alone = measured["one process"][0]
    return [_row(engine, seconds, alone) for engine, (seconds, _) in measured.items()]


def _aggregate(source: Path, *arguments: str, settings: dict[str, str] | None = None) -> tuple[float, str]:
    """Aggregate a copy of the database and return the seconds and a digest of what was published."""
    path = source.with_name("copy.sqlite")
    shutil.copy(source, path)
    url = f"sqlite:///{path}"
    command = [sys.executable, "-c", _EGUARD, "fleet", "aggregate", "--url", url, "--full", "--json", *arguments]
    started = time.perf_counter()
    subprocess.run(command, env=os.environ | (settings or {}), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started, _published(path)


def _published(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            "SELECT process_key, median_distribution, agent_count, voter_samples, stddev_kl, continuous "
            "FROM fleet_baseline ORDER BY process_key"
        ).fetchall()
    if len(rows) != KEYS:
        raise RuntimeError(f"{len(rows)} of {KEYS} keys were published")
    return hashlib.sha256(repr(rows).encode()).hexdigest()


@contextlib.contextmanager
def _cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Run a scheduler and its workers, and yield the settings by which eGuard finds them."""
    authority = trustme.CA()
    node = authority.issue_cert("127.0.0.1", not_after=dt.datetime.now(dt.UTC) + dt.timedelta(days=2))
    ca, certificate, key = folder / "ca.pem", folder / "node.pem", folder / "node.key"
    authority.cert_pem.write_to_path(ca)
    node.cert_chain_pems[0].write_to_path(certificate)
    node.private_key_pem.write_to_path(key)
    files = {"tls_ca_file": str(ca)} | {
        f"tls_{role}_{kind}": str(path)
        for role in ("scheduler", "worker", "client")
        for kind, path in (("cert", certificate), ("key", key))
    }
    tls = ["--tls-ca-file", str(ca), "--tls-cert", str(certificate), "--tls-key", str(key)]
    place = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--no-dashboard", *tls]
    found = folder / "scheduler.json"
    with contextlib.ExitStack() as running:
        running.enter_context(
            _program("scheduler", "--protocol", "tls", "--port", "0", "--scheduler-file", str(found), *place)
        )
        address = _address(found)
        threads = ["--nworkers", str(WORKERS), "--nthreads", "1", "--local-directory", str(folder)]
        running.enter_context(_program("worker", address, *threads, *place))
        security = Security(require_encryption=True, **files)
        with Client(address, security=security, timeout=START_SECONDS) as client:
            client.wait_for_workers(WORKERS, timeout=START_SECONDS)
        yield {
            "EGUARD_DASK_ADDRESS": address,
            "EGUARD_DASK_TLS_CA": str(ca),
            "EGUARD_DASK_TLS_CERT": str(certificate),
            "EGUARD_DASK_TLS_KEY": str(key),
        }


@contextlib.contextmanager
def _program(*arguments: str) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", _DASK, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as program:
        try:
            yield
        finally:
            program.terminate()


def _address(file: Path) -> str:
    """Wait until the scheduler has written down where it listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.1)
    raise RuntimeError(f"the scheduler did not start within {START_SECONDS:.0f} s")


def _row(engine: str, seconds: float, alone: float) -> dict[str, Any]:
    return {
        "name": f"aggregation, {AGENTS:,} agents x {KEYS} keys, {engine} against one process",
        "ours": seconds,
        "peer": alone,
        "unit": "s",
        "ratio": alone / seconds,
        "target_ratio": None,
    }


if __name__ == "__main__":
    for row in run():
        print(row)

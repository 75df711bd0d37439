"""Fleet aggregation: coordinate medians of 10,000 agents x 200 process keys x 8 classes, divided by their sum.

Ours checks that every vote is a distribution and reports the mass; the peers only compute. All hold the votes in memory
in the layout that suits them: NumPy by agent, DuckDB in a native table (by key and class in one column, and by key in
eight; the faster counts), ours as rows ordered by key, which is how the fleet store delivers them, and by agent. Turns
alternate, the best of each counts, and results are compared before anything is reported. A second thread helps only
where a second core is idle.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from eguard.estimators import FleetDistributions, aggregate_many

AGENTS, KEYS, CLASSES = 10_000, 200, 8
CONCENTRATION = 60.0
SEED = 20260301
TURNS = 5
THREADS = min(2, os.cpu_count() or 1)
TARGET = 5.0


def run() -> list[dict[str, Any]]:
    """Return rates in million values a second against both peers, with two threads and with one."""
    by_agent = _votes()
    by_key = np.ascontiguousarray(by_agent.transpose(1, 0, 2)).reshape(-1, CLASSES)
    offsets = np.arange(0, KEYS * AGENTS + 1, AGENTS)
    connection = _tables(by_agent)
    works: dict[str, Callable[[], Any]] = {
        "agent": lambda: aggregate_many(by_agent, threads=THREADS),
        "key": lambda: aggregate_many(by_key, offsets, threads=THREADS),
        "agent, one thread": lambda: aggregate_many(by_agent),
        "key, one thread": lambda: aggregate_many(by_key, offsets),
        "numpy": lambda: _numpy(by_agent),
        "duckdb long": lambda: _duckdb_long(connection),
        "duckdb wide": lambda: _duckdb_wide(connection),
    }
    rates, results = _alternate(works)
    for name, result in results.items():
        found = result.distributions if isinstance(result, FleetDistributions) else result
        np.testing.assert_allclose(found, results["numpy"], rtol=0, atol=1e-12, err_msg=name)
    duck = max(rates["duckdb long"], rates["duckdb wide"])
    for layout in ("key", "agent"):
        rates[f"{layout}, best"] = max(rates[layout], rates[f"{layout}, one thread"])
    best = f"best of 1 and {THREADS} threads"
    pairs = [
        (f"aggregation, rows by key, {best} / DuckDB median", "key, best", duck, TARGET),
        (f"aggregation, rows by key, {best} / numpy.median(axis=0)", "key, best", rates["numpy"], TARGET),
        (f"aggregation, by agent, {best} / numpy.median(axis=0)", "agent, best", rates["numpy"], TARGET),
        ("aggregation, rows by key, 1 thread / DuckDB median", "key, one thread", duck, None),
        ("aggregation, rows by key, 1 thread / numpy.median(axis=0)", "key, one thread", rates["numpy"], None),
        ("aggregation, by agent, 1 thread / numpy.median(axis=0)", "agent, one thread", rates["numpy"], None),
    ]
    return [_row(name, rates[ours], peer, target) for name, ours, peer, target in pairs]


def _votes() -> np.ndarray:
    rng = np.random.default_rng(SEED)
    base = rng.dirichlet(np.ones(CLASSES), size=KEYS)
    weights = rng.standard_gamma(CONCENTRATION * base + 0.05, size=(AGENTS, KEYS, CLASSES))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def _tables(votes: np.ndarray) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    keys = np.tile(np.arange(KEYS, dtype=np.int32), AGENTS)
    columns = {f"p{j}": votes[:, :, j].ravel() for j in range(CLASSES)}
    connection.register("wide_rows", pa.table({"key": keys, **columns}))
    connection.execute("CREATE TABLE wide AS SELECT * FROM wide_rows")
    cells = np.tile(np.arange(KEYS * CLASSES, dtype=np.int32), AGENTS)
    connection.register("long_rows", pa.table({"cell": cells, "p": votes.ravel()}))
    connection.execute("CREATE TABLE long AS SELECT * FROM long_rows")
    return connection


def _numpy(votes: np.ndarray) -> np.ndarray:
    medians = np.median(votes, axis=0)
    return np.asarray(medians / medians.sum(axis=1, keepdims=True))


def _duckdb_long(connection: duckdb.DuckDBPyConnection) -> np.ndarray:
    query = "SELECT median(p) AS m FROM long GROUP BY cell ORDER BY cell"
    medians = np.asarray(connection.execute(query).fetchnumpy()["m"]).reshape(KEYS, CLASSES)
    return np.asarray(medians / medians.sum(axis=1, keepdims=True))


def _duckdb_wide(connection: duckdb.DuckDBPyConnection) -> np.ndarray:
    medians = ", ".join(f"median(p{j}) AS m{j}" for j in range(CLASSES))
    result = connection.execute(f"SELECT {medians} FROM wide GROUP BY key ORDER BY key").fetchnumpy()
    table = np.stack([result[f"m{j}"] for j in range(CLASSES)], axis=1)
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def _alternate(works: dict[str, Callable[[], Any]]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return million values a second, best of all turns, and the last results."""
    best = dict.fromkeys(works, float("inf"))
    results = {}
    for _ in range(TURNS):
        for name, work in works.items():
            started = time.perf_counter()
            results[name] = work()
            best[name] = min(best[name], time.perf_counter() - started)
    return {name: AGENTS * KEYS * CLASSES / seconds / 1e6 for name, seconds in best.items()}, results


def _row(name: str, ours: float, peer: float, target: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "unit": "M values/s",
        "ratio": ours / peer,
        "target_ratio": target,
    }


if __name__ == "__main__":
    for row in run():
        print(row)

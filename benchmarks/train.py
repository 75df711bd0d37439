"""The train stage on 90,000 x 43: both kinds of model, cross-validation, calibration and the bootstrap over hosts."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.events import EventClass
from eguard.mlops.dataset import Dataset, Vocabulary
from eguard.mlops.resources import Machine, resolve_profile
from eguard.mlops.train import TrainParams, select_and_fit
from eguard.mlops.training import training_report

ROWS = 90_000
NETWORKS = 5
HOSTS_PER_NETWORK = 12
RULES = 70
TARGET_SECONDS = 60.0
SEED = 20260301


def run() -> list[dict[str, Any]]:
    data = signals(np.random.default_rng(SEED))
    params = TrainParams(resource_profile="modest")
    profile = resolve_profile("modest", Machine(cpu_count=2, memory_bytes=2**33))
    started = time.perf_counter()
    training = select_and_fit(data, params, profile)
    fitted = time.perf_counter()
    training_report(training, np.random.default_rng(SEED), params.bootstrap_replicates)
    ended = time.perf_counter()
    size = f"{ROWS:,} x {len(FEATURE_NAMES)}"
    return [
        row(f"train stage, {size}: {len(training.results)} candidates, {len(training.folds)} folds", ended - started),
        row(f"of it {params.bootstrap_replicates} resamplings of hosts, ten metrics", ended - fitted),
    ]


def row(name: str, seconds: float) -> dict[str, Any]:
    return {"name": name, "ours": seconds, "unit": "s", "target": TARGET_SECONDS, "lower_is_better": True}


def signals(rng: np.random.Generator) -> Dataset:
    """Return rows in which all 43 features vary, so that no column is cheap."""
    hosts = rng.integers(0, NETWORKS * HOSTS_PER_NETWORK, ROWS)
    networks = hosts // HOSTS_PER_NETWORK
    rules = rng.zipf(1.4, ROWS) % RULES
    features = rng.random((ROWS, len(FEATURE_NAMES)))
    odds = 4.0 * features[:, 36] - 3.0 * features[:, 38] + np.where(rules % 7 == 0, 1.5, -3.0)
    labels = (rng.random(ROWS) < 1.0 / (1.0 + np.exp(-odds))).astype(np.int8)
    return Dataset(
        features=features,
        labels=labels,
        weights=np.ones(ROWS),
        time_unix=1.6e9 + 1e6 * networks + rng.uniform(0.0, 4e5, ROWS),
        adjudicated_unix=np.asarray(1.6e9 + 1e6 * networks + 5e5, np.float64),
        severity=np.full(ROWS, 0.5),
        hosts=hosts,
        networks=networks,
        rules=rules,
        units=networks,
        event_class=np.full(ROWS, int(EventClass.ALERT), np.int8),
        steps=np.where(labels == 1, "attack", ""),
        sources=np.full(ROWS, "ait"),
        is_flood=np.zeros(ROWS, np.bool_),
        is_reservoir=np.zeros(ROWS, np.bool_),
        names=Vocabulary(
            hosts=tuple(f"h{host:02d}" for host in range(NETWORKS * HOSTS_PER_NETWORK)),
            networks=tuple(f"n{network}" for network in range(NETWORKS)),
            rules=tuple(f"R{rule:02d}" for rule in range(RULES)),
            units=tuple(f"n{network}" for network in range(NETWORKS)),
        ),
    )

"""The engine on one core over the shipped endpoint events: counting and learning everything, and scoring everything.

The first figure is what every event costs: process keys, windows, thresholds, drift and learning. The second makes
every event a candidate: rules, indicators, prefilter, process tree, context, all 43 features, the classifier's score
and its p-value. An agent pays the first for all events and the second for the few on which something fired.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions
from eguard.detection.features import N_FEATURES, contract_sha256
from eguard.detection.gate import CalibrationGroup, ConformalGate
from eguard.detection.layers import DetectionContent
from eguard.detection.model import Model, load_model
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rules import RuleSet
from eguard.errors import ModelError
from eguard.events import EventBatch
from eguard.events.parsers import read_batches
from eguard.mlops.rules import RulesParams, compile_rules

ROOT = Path(__file__).parents[1]
RAW = ROOT / "data" / "raw"
MODEL = ROOT / "models" / "signature-ml-model.json"
TARGET_EVENTS_PER_SECOND = 150_000
TARGET_ROWS_PER_SECOND = 20_000
CALIBRATION_SCORES = 1000
ROUNDS = 3


def run() -> list[dict[str, Any]]:
    """Measure both in processor time of one thread; events are parsed and rules compiled beforehand."""
    hosts = _hosts()
    counting = EngineOptions(reservoir_events=0)
    scoring = EngineOptions(reservoir_events=1 << 40)
    model, gate = trained_model()
    content = rule_content()
    learn = max(_rate(hosts, counting, DetectionContent()) for _ in range(ROUNDS))
    score = max(_rate(hosts, scoring, content, model, gate) for _ in range(ROUNDS))
    return [
        _row("engine: windows, drift, counts, learning", learn, "events/s", TARGET_EVENTS_PER_SECOND),
        _row(f"engine: full rows with scores ({model.kind})", score, "rows/s", TARGET_ROWS_PER_SECOND),
    ]


def _row(name: str, ours: float, unit: str, target: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "peer": None,
        "unit": unit,
        "ratio": None,
        "target_ratio": None,
        "target": target,
    }


def _hosts() -> dict[str, list[EventBatch]]:
    """Return the events of each host in time order, in batches as a sensor hands them over."""
    events = EventBatch.concatenate(
        list(read_batches(RAW / "endpoint-events" / "events.csv.gz", "sysmon-csv"))
    ).sorted_by_time()
    names = np.array(events.host_id, dtype=np.str_)
    return {host: list(events.take(np.flatnonzero(names == host)).chunks()) for host in np.unique(names).tolist()}


def rule_content() -> DetectionContent:
    """Return the shipped rules and a prefilter."""
    kept, _ = compile_rules(RAW / "sigma-rules" / "rules.ndjson.gz", RulesParams())
    return DetectionContent(
        rules=RuleSet.from_json({"format": 1, "rules": kept}),
        prefilter=CommandLinePrefilter({"mimikatz": 1, "sekurlsa::": 1, "-encodedcommand": 1}),
    )


def trained_model() -> tuple[Model, ConformalGate]:
    """Return the model that the pipeline trained, or a logistic one of its size where there is none; and a gate."""
    model = _model()
    group = CalibrationGroup(0.99, "calibrated", np.linspace(0.0, 1.0, CALIBRATION_SCORES))
    return model, ConformalGate({"pooled": group}, 0.01, model.digest)


def _model() -> Model:
    try:
        return load_model(json.loads(MODEL.read_text()), expected_contract_sha256=contract_sha256())
    except (OSError, ModelError):
        weights = np.random.default_rng(0).normal(size=N_FEATURES).tolist()
    return load_model(
        {
            "format": 1,
            "kind": "logistic",
            "version": "benchmark",
            "contract_sha256": contract_sha256(),
            "n_features": N_FEATURES,
            "threshold": 0.5,
            "platt": {"slope": 1.0, "intercept": 0.0},
            "tables": {"class_risk": [0.1] * 8, "rule_precision": {}, "rule_precision_default": 0.1},
            "parameters": {
                "coefficients": weights,
                "center": [0.0] * N_FEATURES,
                "scale": [1.0] * N_FEATURES,
                "intercept": -3.0,
            },
        }
    )


def _rate(
    hosts: dict[str, list[EventBatch]],
    options: EngineOptions,
    content: DetectionContent,
    model: Model | None = None,
    gate: ConformalGate | None = None,
) -> float:
    """Return events a second over all hosts, each with an engine of its own."""
    engines = {host: Engine(host, content, options, model=model, gate=gate) for host in hosts}
    done = 0
    begin = time.process_time()
    for host, batches in hosts.items():
        for batch in batches:
            engines[host].process(batch)
            done += len(batch)
    return done / (time.process_time() - begin)

"""A server's database after weeks of verdicts: alerts of the shipped networks under other host names, each judged.

The alerts are those of ``data/processed/corpus.parquet``, which `dvc repro corpus` makes; their labels are what six
analysts say of them. By hand: ``python -m benchmarks._night_database DATABASE_URL [ROWS]``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.fleet import FleetStore
from eguard.fleet.database import Database
from eguard.fleet.tables import alert_feedback, endpoint_agent, endpoint_event

CORPUS: Final = Path(__file__).parents[1] / "data" / "processed" / "corpus.parquet"
ROWS: Final = 60_000
ANALYSTS: Final = 6
DAYS: Final = 19.5
SEED: Final = 20260301
_DAY: Final = 86_400.0
_AT_ONCE: Final = 5_000


def add_verdicts(url: str, rows: int = ROWS, *, now: float | None = None) -> int:
    """Write judged alerts of the last 20 days into a database, which is made if need be; return how many.

    Their hosts are entered as decommissioned: they are nobody's cohort, and no agent is waited for.

    Raises
    ------
    FileNotFoundError
        The pipeline has not made its corpus.
    """
    FleetStore.create(url).close()
    alerts = _alerts(rows, time.time() if now is None else now)
    hosts = sorted(set(alerts["agent_id"]))
    database = Database(url)
    try:
        with database.write() as connection:
            connection.execute(sa.insert(endpoint_agent), [_host(name, alerts["at"].min()) for name in hosts])
            for first in range(0, len(alerts), _AT_ONCE):
                part = alerts.iloc[first : first + _AT_ONCE]
                connection.execute(sa.insert(endpoint_event), _events(part))
                connection.execute(sa.insert(alert_feedback), _verdicts(part))
    finally:
        database.dispose()
    return len(alerts)


def _alerts(rows: int, now: float) -> pd.DataFrame:
    """Return labelled alerts, each network's days laid over the same last days."""
    corpus = pd.read_parquet(CORPUS)
    corpus = corpus[(corpus["source"] == "ait") & corpus["label"].notna()]
    alerts = corpus.sample(min(rows, len(corpus)), random_state=SEED).reset_index(drop=True)
    times = alerts.groupby("network", observed=True)["observed_at_unix"]
    begin, end = times.transform("min"), times.transform("max")
    alerts["at"] = now - 20.0 * _DAY + (alerts["observed_at_unix"] - begin) / (end - begin) * DAYS * _DAY
    alerts["agent_id"] = "agent-" + alerts["host_id"].astype(str).str.replace("/", "-")
    alerts["event_id"] = [f"judged-{number:07d}" for number in range(len(alerts))]
    alerts["analyst"] = np.random.default_rng(SEED).integers(0, ANALYSTS, len(alerts))
    return alerts


def _host(name: str, since: float) -> dict[str, Any]:
    return {
        "agent_id": name,
        "incarnation": "first",
        "incarnation_ordinal": 1,
        "group": "",
        "status": "decommissioned",
        "enrolled_at": since - _DAY,
    }


def _events(alerts: pd.DataFrame) -> list[dict[str, Any]]:
    features = alerts[list(FEATURE_NAMES)].to_numpy()
    return [
        {
            "event_id": row.event_id,
            "agent_id": row.agent_id,
            "observed_at": row.at,
            "received_at": row.at + 1.0,
            "event_class": row.event_class,
            "process_key": "alerting:network",
            "rule_id": row.rule_id,
            "severity": "medium",
            "score": 0.5,
            "model_version": "before",
            "features": dict(zip(FEATURE_NAMES, values.tolist(), strict=True)),
            "detail": {},
            "search_text": "",
        }
        for row, values in zip(alerts.itertuples(), features, strict=True)
    ]


def _verdicts(alerts: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "feedback_id": row.event_id,
            "event_id": row.event_id,
            "verdict": "true_positive" if row.label == 1 else "false_positive",
            "analyst": f"analyst-{row.analyst}",
            "note": "",
            "created_at": row.at + 3600.0,
        }
        for row in alerts.itertuples()
    ]


if __name__ == "__main__":
    judged = add_verdicts(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else ROWS)
    sys.stdout.write(f"{judged} judged alerts\n")

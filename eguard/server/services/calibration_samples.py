"""Calibration samples of agents: which are kept, and how many of one agent.

Thresholds are ranks among these rows, so an agent that could store more of them than others would set everybody's. What
one agent may add in a day is bounded here; the night takes as many of each agent as of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from eguard.detection.feature_contract import contract_sha256
from eguard.fleet.tables import calibration_sample
from eguard.wire.telemetry import CalibrationSample, TelemetryAnswer, TelemetryRejection

#: Samples that one agent may add in 24 hours; by default agents send 384.
MAX_SAMPLES_A_DAY: Final = 2400
_DAY_SECONDS: Final = 86_400.0
_HEXADECIMAL: Final = frozenset("0123456789abcdef")
_column = calibration_sample.c


def store_samples(
    connection: sa.Connection,
    agent_id: str,
    samples: Sequence[CalibrationSample],
    owners: dict[str, str],
    now: float,
) -> TelemetryAnswer:
    """Store the good samples of a batch and name the bad ones.

    Parameters
    ----------
    connection : Connection
        In a transaction that has locked the agent.
    agent_id : str
        Who sends them, from the certificate.
    samples : sequence of CalibrationSample
    owners : dict of str to str
        Who stored those of the ids that are there; new ones are added.
    now : float
        The time that counts: what an endpoint's clock says is believed up to it.

    Returns
    -------
    TelemetryAnswer
        Codes of rejections: ``sample_id_taken`` (another agent's), ``invalid_contract``, ``invalid_number``, and
        ``too_many`` beyond `MAX_SAMPLES_A_DAY`.
    """
    left = MAX_SAMPLES_A_DAY - _stored_today(connection, agent_id, now)
    rejected: list[TelemetryRejection] = []
    rows: list[dict[str, Any]] = []
    duplicate = 0
    for index, sample in enumerate(samples):
        if owners.get(sample.sample_id) == agent_id:
            duplicate += 1
            continue
        refusal = _refusal(sample, owners)
        if not refusal and len(rows) >= left:
            refusal = "too_many", f"samples: more than {MAX_SAMPLES_A_DAY} of one agent in 24 h"
        if refusal:
            rejected.append(TelemetryRejection(index, *refusal))
            continue
        owners[sample.sample_id] = agent_id
        rows.append(_row(agent_id, sample, now))
    if rows:
        connection.execute(sa.insert(calibration_sample), rows)
    return TelemetryAnswer(accepted=len(rows), duplicate=duplicate, rejected=rejected)


def _stored_today(connection: sa.Connection, agent_id: str, now: float) -> int:
    query = sa.select(sa.func.count()).where(_column.agent_id == agent_id, _column.received_at > now - _DAY_SECONDS)
    return int(connection.execute(query).scalar() or 0)


def _refusal(sample: CalibrationSample, owners: dict[str, str]) -> tuple[str, str] | None:
    """Return the code and the sentence that refuse a sample."""
    if sample.sample_id in owners:
        return "sample_id_taken", "sample_id: another agent's sample has it"
    if not _HEXADECIMAL.issuperset(sample.contract_hash):
        return "invalid_contract", "contract_hash: no SHA-256 in hexadecimal"
    # Features of this contract are shares; those of another release's may be anything that is a number.
    most = 1.0 if sample.contract_hash == contract_sha256() else float("inf")
    if not all(0.0 <= value <= most and value != float("inf") for value in sample.features):
        return "invalid_number", "features: numbers from 0 to 1 only"
    return None


def _row(agent_id: str, sample: CalibrationSample, now: float) -> dict[str, Any]:
    return {
        "sample_id": sample.sample_id,
        "agent_id": agent_id,
        "event_class": sample.event_class,
        "features": sample.features,
        "contract_hash": sample.contract_hash,
        "observed_at": min(sample.observed_at_unix, now),
        "received_at": now,
        "signal": sample.signal,
        "score": sample.score,
        "model_digest": sample.model_digest,
        "event_id": sample.event_id,
    }

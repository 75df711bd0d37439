"""Calibration rows of the fleet: what agents drew uniformly, less what is known to be no ordinary event.

A threshold is a rank among these rows, so who is among them decides how much gets past it. Alerts that analysts judged
are selected by the alert and calibrate nothing; they only take rows out. Taken out are events that gave an alert whose
latest verdict is ``true_positive``, and every row of a host with an open alert of High or above. No host has more rows
than the median host, so that one that lies moves ranks by its own share and not by what it sends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from eguard.detection.confidence import Confidence
from eguard.detection.feature_contract import N_FEATURES, contract_sha256
from eguard.detection.fitted_tables import CLASS_RISK_INDEX, RULE_PRECISION_INDEX
from eguard.detection.recalibration import CalibrationRows
from eguard.events.model import UNCOUNTED, EventClass
from eguard.fleet.tables import alert_feedback, calibration_sample, endpoint_agent, endpoint_event, incident

#: Rows that are enough for every use: conformal ranks of 5,000 a class are exact to a tenth of alpha.
MAX_ROWS: Final = 20_000
#: Rows that are looked at, newest first, before so many are chosen.
MAX_LOOKED_AT: Final = 500_000
_IDS_A_QUERY: Final = 1000
_HIGH: Final = tuple(step.name.lower() for step in Confidence if step >= Confidence.HIGH)
_OPEN: Final = ("open", "investigating")
_CLASSES: Final = {member.name.lower(): int(member) for member in EventClass}
_sample = calibration_sample.c
_event = endpoint_event.c
_said = alert_feedback.c


@dataclass(frozen=True, slots=True)
class BenignSamples:
    """Calibration rows, oldest first: lists of n, `rows` with a feature matrix of shape (n, 43).

    The two columns that a model brings itself are 0. `facts` says how many rows there were, which were left out and
    why, and what is assumed of the rest.
    """

    sample_ids: list[str]
    hosts: list[str]
    groups: list[str]
    observed_at: NDArray[np.float64]
    received_at: NDArray[np.float64]
    rows: CalibrationRows
    facts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sample_ids)


def read_benign_samples(
    connection: sa.Connection, since: float, until: float, *, limit: int = MAX_ROWS
) -> BenignSamples:
    """Return what agents drew and the server received after `since` and up to `until`, at most `limit` rows.

    Which rows stay is decided by the hash of their ids: uniform, and the same in every run.
    """
    in_window = sa.and_(_sample.received_at > since, _sample.received_at <= until)
    query = sa.select(_sample.sample_id, _sample.agent_id, _sample.contract_hash, _sample.event_id).where(in_window)
    listed = connection.execute(query.order_by(_sample.received_at.desc(), _sample.sample_id).limit(MAX_LOOKED_AT))
    found = listed.all()
    left_out = {
        "another contract": 0,
        "true positive": 0,
        "host with an open High alert": 0,
        "beyond its host's share": 0,
    }
    verdicts = _latest_verdicts(connection, [row.event_id for row in found if row.event_id is not None])
    suspects = _hosts_with_open_alerts(connection, since, until)
    by_host: dict[str, list[str]] = {}
    alerted = judged = attacks = 0
    for row in found:
        verdict = verdicts.get(row.event_id)
        judged += verdict is not None
        attacks += verdict == "true_positive"
        if row.contract_hash != contract_sha256():
            left_out["another contract"] += 1
        elif verdict == "true_positive":
            left_out["true positive"] += 1
        elif row.agent_id in suspects:
            left_out["host with an open High alert"] += 1
        else:
            by_host.setdefault(row.agent_id, []).append(row.sample_id)
            alerted += row.event_id is not None and verdict is None
    n_good = sum(map(len, by_host.values()))
    chosen = _equal_shares(by_host, limit)
    left_out["beyond its host's share"] = n_good - len(chosen)
    facts = {
        "received": len(found),
        "rows": len(chosen),
        "hosts": len(by_host),
        "left_out": left_out,
        "largest_host_share": _largest_share(by_host, chosen),
        # Whatever is left counts as benign. How much of it is expected not to be, by how analysts judged the alerts
        # among these rows; unknown where they judged none.
        "assumed_contamination": 0.0,
        "expected_contamination": alerted * attacks / judged / n_good if judged and n_good else None,
    }
    return _read(connection, sorted(chosen), facts)


def _latest_verdicts(connection: sa.Connection, event_ids: Sequence[str]) -> dict[str | None, str]:
    verdicts: dict[str | None, str] = {}
    for start in range(0, len(event_ids), _IDS_A_QUERY):
        chosen = _said.event_id.in_(event_ids[start : start + _IDS_A_QUERY])
        query = sa.select(_said.event_id, _said.verdict).where(chosen)
        ordered = query.order_by(_said.created_at, _said.feedback_id)
        verdicts.update((row[0], row[1]) for row in connection.execute(ordered))
    return verdicts


def _hosts_with_open_alerts(connection: sa.Connection, since: float, until: float) -> set[str]:
    """Return the agents with an alert of High or above that nobody closed or judged to be none."""
    query = (
        sa.select(_event.agent_id, _event.event_id)
        .join(incident, incident.c.incident_id == _event.incident_id)
        .where(
            _event.received_at > since,
            _event.received_at <= until,
            _event.severity.in_(_HIGH),
            _event.suppressed_by.is_(None),
            incident.c.status.in_(_OPEN),
        )
    )
    rows = connection.execute(query).all()
    verdicts = _latest_verdicts(connection, [row.event_id for row in rows])
    return {row.agent_id for row in rows if verdicts.get(row.event_id, "true_positive") == "true_positive"}


def _equal_shares(by_host: dict[str, list[str]], limit: int) -> set[str]:
    """Return the ids that stay: of each host at most as many as the median host has, `limit` in all."""
    if not by_host:
        return set()
    counts = sorted(map(len, by_host.values()))
    most = min(counts[len(counts) // 2], max(limit // len(counts), 1))
    chosen = [name for ids in by_host.values() for name in sorted(ids, key=_rank)[:most]]
    return set(sorted(chosen, key=_rank)[:limit])


def _rank(sample_id: str) -> bytes:
    return hashlib.sha256(sample_id.encode()).digest()


def _largest_share(by_host: dict[str, list[str]], chosen: set[str]) -> float | None:
    if not chosen:
        return None
    return max(sum(name in chosen for name in ids) for ids in by_host.values()) / len(chosen)


def _read(connection: sa.Connection, ids: list[str], facts: dict[str, Any]) -> BenignSamples:
    """Read the chosen rows whole."""
    decoder = msgspec.json.Decoder(list[float])
    found: list[Any] = []
    for start in range(0, len(ids), _IDS_A_QUERY):
        query = sa.select(
            _sample.sample_id,
            _sample.agent_id,
            endpoint_agent.c.group,
            _sample.observed_at,
            _sample.received_at,
            _sample.event_class,
            _sample.signal,
            # As text: rows are decoded once, straight into numbers.
            sa.type_coerce(_sample.features, sa.Text).label("features"),
        ).join(endpoint_agent, endpoint_agent.c.agent_id == _sample.agent_id, isouter=True)
        found += connection.execute(query.where(_sample.sample_id.in_(ids[start : start + _IDS_A_QUERY]))).all()
    found.sort(key=lambda row: (row.received_at, row.sample_id))
    matrix = np.array([decoder.decode(row.features) for row in found], np.float64).reshape(-1, N_FEATURES)
    matrix[:, [CLASS_RISK_INDEX, RULE_PRECISION_INDEX]] = 0.0
    return BenignSamples(
        sample_ids=[row.sample_id for row in found],
        hosts=[row.agent_id for row in found],
        groups=[row.group or "" for row in found],
        observed_at=np.array([row.observed_at for row in found], np.float64),
        received_at=np.array([row.received_at for row in found], np.float64),
        rows=CalibrationRows(
            matrix,
            np.array([_CLASSES.get(row.event_class, UNCOUNTED) for row in found], np.int8),
            [row.signal for row in found],
        ),
        facts=facts,
    )

"""The calibration of the model in service: set anew whenever the served model changes, and looked at every hour.

A model that is served for the first time, with other thresholds, or again after a rollback, scores the calibration rows
of the 30 days before it (`eguard.fleet.calibration`). Those scores are its reference: thresholds are ranks among them,
and each day's scores are compared with them. Nothing that was computed for another model is used: the reference names
its model by digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
import structlog
from numpy.typing import NDArray

from eguard.clock import Clock
from eguard.detection.content import CALIBRATION_FILE, MODEL_FILE
from eguard.detection.feature_contract import contract_sha256
from eguard.detection.gate import POOLED, ConformalGate
from eguard.detection.model import Model, load_model
from eguard.detection.recalibration import rescore
from eguard.detection.score_health import Clustering, ScoredSample, score_health
from eguard.errors import ModelError, ServerRefusalError
from eguard.estimators import conformal_threshold
from eguard.fleet.calibration import BenignSamples, read_benign_samples
from eguard.fleet.database import Database
from eguard.fleet.tables import calibration_reference
from eguard.fleet.upsert import upsert
from eguard.server.services.alert_rules import SCORE_CHECKS_A_DAY
from eguard.server.services.served_bundle import ServedBundle

DAY_SECONDS: Final = 86_400.0
WINDOW_SECONDS: Final = 30 * DAY_SECONDS
CHECK_SECONDS: Final = DAY_SECONDS / SCORE_CHECKS_A_DAY
#: A reference has so many rows, of so many days: how days differ has to be known. Of four days it is not known well
#: enough: in simulations 7 healthy days of 500 were called changed then, of seven 1 of 500, of fourteen 3.
MIN_REFERENCE_ROWS: Final = 300
MIN_REFERENCE_SECONDS: Final = 7 * DAY_SECONDS
MAX_REFERENCE_ROWS: Final = 5000
MIN_CURRENT_ROWS: Final = 100
_EARLY_SECONDS: Final = 60.0

_reference = calibration_reference.c
_log = structlog.get_logger("eguard.server")


class Calibrations:
    """Reference scores of the served model, and how the fleet's scores stand to them.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        For windows.
    served : ServedBundle
        What agents are served.
    """

    def __init__(self, database: Database, clock: Clock, served: ServedBundle) -> None:
        self._database = database
        self._clock = clock
        self._served = served

    def look(self) -> dict[str, Any]:
        """Recalibrate if another model is served than at the last look, and check the scores if an hour is over.

        Returns
        -------
        dict
            What was done; with ``skipped`` and why if nothing was.

        Raises
        ------
        FleetStoreError
            The database refused.
        """
        now = self._clock.now()
        try:
            files = self._served.read().files if self._served.is_there else None
            parts = None if files is None else _read_parts(files)
        except (ServerRefusalError, ModelError) as error:
            return {"skipped": f"the served model cannot be read: {error.message}"}
        if parts is None:
            return {"skipped": "no bundle is served"}
        model, gate = parts
        assert files is not None
        thresholds = hashlib.sha256(files[CALIBRATION_FILE]).hexdigest()
        row = self._current()
        if row is None or (row.model_digest, row.calibration_digest) != (model.digest, thresholds):
            row = self._load(model, gate, thresholds, now)
        if row.scores is None:
            row = self._set_reference(model, gate, now)
        if row.scores is None:
            return {"model_digest": model.digest, "reference_rows": row.facts.get("rows", 0), "checked": False}
        if row.checked_at is not None and now - row.checked_at < CHECK_SECONDS - _EARLY_SECONDS:
            return {"model_digest": model.digest, "skipped": "checked within the hour"}
        return {"model_digest": model.digest, "checked": self._check(row, model, gate, now)}

    def _current(self) -> sa.Row[Any] | None:
        with self._database.read() as connection:
            return current_reference(connection)

    def _load(self, model: Model, gate: ConformalGate, thresholds: str, now: float) -> sa.Row[Any]:
        """Begin with a model: what was kept of it from an earlier time in service is set anew."""
        values = {
            "model_digest": model.digest,
            "model_version": model.version[:128],
            "calibration_digest": thresholds,
            "contract_hash": contract_sha256(),
            "alpha": gate.alpha,
            "loaded_at": now,
            "computed_at": None,
            "scores": None,
            "times": None,
            "hosts": None,
            "thresholds": None,
            "facts": {},
            "checked_at": None,
            "health": None,
        }
        _log.info("model in service changed", model_version=model.version, digest=model.digest)
        statement = upsert(calibration_reference, ["model_digest"]).values(**values)
        # Of a model that is in service no more, what it was judged by is enough to keep.
        others = sa.update(calibration_reference).where(_reference.model_digest != model.digest)

        def write(connection: sa.Connection) -> None:
            connection.execute(others.values(scores=None, times=None, hosts=None))
            connection.execute(statement)

        return self._written(write)

    def _set_reference(self, model: Model, gate: ConformalGate, now: float) -> sa.Row[Any]:
        """Score the kept rows with the model, if there are enough of them, and set its thresholds from that."""
        with self._database.read() as connection:
            samples = read_benign_samples(connection, now - WINDOW_SECONDS, now, limit=MAX_REFERENCE_ROWS)
        facts: dict[str, Any] = dict(samples.facts)
        span = float(np.ptp(samples.received_at)) if len(samples) else 0.0
        facts["days"] = span / DAY_SECONDS
        values: dict[str, Any] = {"facts": facts}
        if len(samples) >= MIN_REFERENCE_ROWS and span >= MIN_REFERENCE_SECONDS:
            scores = rescore(model, samples.rows)
            values |= {
                "computed_at": now,
                "scores": scores.tolist(),
                "times": samples.received_at.tolist(),
                "hosts": samples.hosts,
                "thresholds": _thresholds(scores, samples.rows.event_class, gate),
            }
            _log.info("recalibrated", model_version=model.version, rows=len(samples), hosts=facts["hosts"])
        return self._change(model.digest, values)

    def _check(self, row: sa.Row[Any], model: Model, gate: ConformalGate, now: float) -> bool:
        """Compare the last day's scores with the reference; return whether there was a whole day of them."""
        reference = ScoredSample(
            np.array(row.scores, np.float64), np.array(row.times, np.float64), np.array(row.hosts, np.str_)
        )
        health: dict[str, Any]
        if now - row.computed_at < DAY_SECONDS:
            health = {"status": "no whole day since the model was calibrated yet"}
        else:
            with self._database.read() as connection:
                day = read_benign_samples(connection, now - DAY_SECONDS, now)
                since = read_benign_samples(connection, row.computed_at, now)
            health = _health(reference, day, since, model, gate)
        health |= {"checked_at_unix": now, "calibration_rows": len(reference.scores), "facts": row.facts}
        self._change(model.digest, {"checked_at": now, "health": health})
        return bool(health["status"] == "checked")

    def _change(self, digest: str, values: Mapping[str, Any]) -> sa.Row[Any]:
        statement = sa.update(calibration_reference).where(_reference.model_digest == digest).values(**values)
        return self._written(lambda connection: connection.execute(statement))

    def _written(self, write: Callable[[sa.Connection], object]) -> sa.Row[Any]:
        self._database.retrying(write, is_idempotent=True)
        found = self._current()
        assert found is not None
        return found


def current_reference(connection: sa.Connection) -> sa.Row[Any] | None:
    """Return the reference of the model in service: that which was loaded last."""
    query = sa.select(calibration_reference).order_by(_reference.loaded_at.desc(), _reference.model_digest).limit(1)
    return connection.execute(query).one_or_none()


def health_of(connection: sa.Connection) -> dict[str, Any] | None:
    """Return what the latest check found, with the model and its thresholds; None before any model was served."""
    query = sa.select(
        _reference.model_digest, _reference.model_version, _reference.alpha, _reference.loaded_at,
        _reference.computed_at, _reference.thresholds, _reference.facts, _reference.checked_at, _reference.health,
    )  # fmt: skip
    row = connection.execute(
        query.order_by(_reference.loaded_at.desc(), _reference.model_digest).limit(1)
    ).one_or_none()
    if row is None:
        return None
    return {
        "model_digest": row.model_digest,
        "model_version": row.model_version,
        "alpha": row.alpha,
        "loaded_at_unix": row.loaded_at,
        "calibrated_at_unix": row.computed_at,
        "thresholds": row.thresholds,
        "samples": row.facts,
        "health": row.health,
    }


def _read_parts(files: Mapping[str, bytes]) -> tuple[Model, ConformalGate]:
    """Return the served model and its thresholds.

    Raises
    ------
    ModelError
        One of them cannot be read, or the thresholds are another model's.
    """
    try:
        documents = json.loads(files[MODEL_FILE]), json.loads(files[CALIBRATION_FILE])
    except (KeyError, ValueError) as error:
        raise ModelError(f"the served bundle has no model or calibration: {error!r}") from error
    model = load_model(documents[0], expected_contract_sha256=contract_sha256())
    return model, ConformalGate.from_json(documents[1], model_digest=model.digest)


def _thresholds(
    scores: NDArray[np.float64], event_class: NDArray[np.int8], gate: ConformalGate
) -> dict[str, dict[str, Any]]:
    """Return the threshold of these scores beside the one that is served, for all rows together."""
    found = conformal_threshold(scores, gate.alpha, gate.guarantee)
    served = gate.groups[POOLED]
    flagged = gate.judge(scores, event_class).flagged
    return {
        POOLED: {
            "n": len(scores),
            "status": found.status,
            "threshold": found.threshold if found.status == "calibrated" else None,
            "served": served.threshold if served.status == "calibrated" else None,
            "flagged_by_served": float(np.mean(flagged)),
        }
    }


def _health(
    reference: ScoredSample, day: BenignSamples, since: BenignSamples, model: Model, gate: ConformalGate
) -> dict[str, Any]:
    if len(day) < MIN_CURRENT_ROWS:
        return {"status": f"{len(day)} samples in 24 h, {MIN_CURRENT_ROWS} are needed"}
    current, later = _scored(day, model), _scored(since, model)
    # The same draws at every look, and others for every model.
    rng = np.random.default_rng(int(model.digest[:16], 16))
    found = score_health(reference, current, later, Clustering.of(reference), rng)
    flagged = gate.judge(current.scores, day.rows.event_class).flagged
    return {
        "status": "checked",
        "rows": len(day),
        "hosts": day.facts["hosts"],
        "flagged_fraction": float(np.mean(flagged)),
        **asdict(found),
    }


def _scored(samples: BenignSamples, model: Model) -> ScoredSample:
    return ScoredSample(rescore(model, samples.rows), samples.received_at, np.array(samples.hosts, np.str_))

"""The layer-5 classifier as agents read it: plain JSON, two kinds, every score explained.

``logistic``: w.x + b on standardised rows. ``gradient_boosting``: `eguard.detection.trees`. Both end in a logit that
Platt's two numbers turn into a probability. The JSON also carries the tables of features 7 and 41 and the hash of the
feature contract it was trained for; another contract is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from eguard.detection.feature_contract import N_FEATURES, contract_sha256
from eguard.detection.fitted_tables import FittedTables
from eguard.detection.tree_nodes import is_sane
from eguard.detection.trees import TreeEnsemble
from eguard.errors import ModelError
from eguard.wire.canonical import canonical_sha256

MODEL_FORMAT: Final = 1

Rows = NDArray[np.float64]


class Scorer(Protocol):
    """Something that turns rows into raw logits and can say what each feature added."""

    n_features: int

    def predict(self, rows: Rows) -> Rows:
        """Return the raw logit of each row."""

    def contributions(self, rows: Rows) -> tuple[Rows, float]:
        """Return each feature's share (n, n_features) and the constant; they sum to `predict`."""


class LinearScorer:
    """``coefficients . (row - center) / scale + intercept``.

    Parameters
    ----------
    coefficients, center, scale : ndarray of shape (n_features,)
        Weights on standardised rows, and what standardises them; scales are positive.
    intercept : float
        Constant term.
    """

    def __init__(self, coefficients: Rows, center: Rows, scale: Rows, intercept: float) -> None:
        if not (coefficients.shape == center.shape == scale.shape and coefficients.ndim == 1 and coefficients.size):
            raise ModelError("coefficients, center and scale differ in length")
        if not (scale > 0).all():
            raise ModelError("the linear model has a scale that is not positive")
        with np.errstate(over="ignore"):
            weights = coefficients / scale
        if not all(is_sane(part) for part in (weights, coefficients, center, scale, intercept)):
            raise ModelError("the linear model holds a number that no fit gives")
        self.n_features = coefficients.size
        self._coefficients, self._center, self._scale = coefficients, center, scale
        self._intercept = float(intercept)

    def predict(self, rows: Rows) -> Rows:
        """Return the raw logit of each row."""
        result: Rows = ((rows - self._center) / self._scale) @ self._coefficients + self._intercept
        return result

    def contributions(self, rows: Rows) -> tuple[Rows, float]:
        """Return w * x of each feature and the intercept."""
        return (rows - self._center) / self._scale * self._coefficients, self._intercept


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded classifier.

    `digest` is the SHA-256 of the model's canonical JSON: calibrations name the model they belong to by it. `threshold`
    is the operating point chosen on out-of-fold scores.
    """

    kind: str
    version: str
    digest: str
    contract_sha256: str
    threshold: float
    tables: FittedTables
    scorer: Scorer
    platt_slope: float
    platt_intercept: float

    def logit(self, features: Rows) -> Rows:
        """Return the calibrated logit of rows (n, n_features) whose columns 7 and 41 are filled.

        Raises
        ------
        ModelError
            The rows have another width or hold a value that is not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.scorer.n_features:
            raise ModelError(f"the model takes rows of {self.scorer.n_features} features, not {features.shape}")
        if not np.isfinite(features).all():
            raise ModelError("a feature row holds a value that is not finite")
        return self.platt_slope * self.scorer.predict(features) + self.platt_intercept

    def score(self, features: Rows) -> Rows:
        """Return the probability of an attack for each row, in [0, 1]."""
        return sigmoid(self.logit(features))

    def contributions(self, features: Rows) -> tuple[Rows, float]:
        """Return each feature's share of the calibrated logit (n, n_features) and the constant share.

        For the linear model these are w * x, for trees exact Shapley values; either way they sum to `logit`.
        """
        shares, constant = self.scorer.contributions(features)
        return self.platt_slope * shares, self.platt_slope * constant + self.platt_intercept


def sigmoid(logit: Rows) -> Rows:
    """Return 1 / (1 + exp(-logit)) without overflow.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    decay = np.exp(-np.abs(logit))
    result: Rows = np.where(logit >= 0, 1.0 / (1.0 + decay), decay / (1.0 + decay))
    return result


def load_model(value: Any, *, expected_contract_sha256: str | None = None) -> Model:
    """Check a model JSON and return the classifier.

    Parameters
    ----------
    value : dict
        The parsed JSON.
    expected_contract_sha256 : str, optional
        Hash of the feature contract of the caller's extractor.

    Raises
    ------
    ModelError
        The format is unknown, a part is missing or malformed, or the contract is another.
    """
    try:
        if value["format"] != MODEL_FORMAT:
            raise ModelError(
                f"the model has format {value['format']}; this version reads {MODEL_FORMAT}",
                remedy="Update eGuard on this machine before it takes newer models.",
            )
        contract = str(value["contract_sha256"])
        if expected_contract_sha256 is not None and contract != expected_contract_sha256:
            raise ModelError(
                f"the model was trained for feature contract {contract[:16]}…, this extractor has "
                f"{expected_contract_sha256[:16]}…",
                remedy="Retrain the model with this version, or install the version it was trained with.",
                model=contract,
                extractor=expected_contract_sha256,
            )
        n_features = int(value["n_features"])
        threshold = float(value["threshold"])
        slope, intercept = (float(value["platt"][name]) for name in ("slope", "intercept"))
        version, kind = str(value["version"]), str(value["kind"])
        tables = FittedTables.from_json(value["tables"])
        scorer = _read_scorer(kind, value["parameters"], n_features)
        digest = canonical_sha256(value)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ModelError(f"the model cannot be read: {error!r}") from error
    if contract == contract_sha256() and n_features != N_FEATURES:
        raise ModelError(f"the model takes {n_features} features, its contract has {N_FEATURES}")
    if not (0.0 <= threshold <= 1.0 and is_sane(slope) and is_sane(intercept)):
        raise ModelError("the model's threshold or calibration is out of range")
    return Model(
        kind, version, digest, contract, threshold, tables, scorer, slope, intercept
    )  # fmt: skip


def _read_scorer(kind: str, parameters: Any, n_features: int) -> Scorer:
    scorer: Scorer
    if kind == "logistic":
        coefficients, center, scale = (
            np.asarray(parameters[name], np.float64) for name in ("coefficients", "center", "scale")
        )
        scorer = LinearScorer(coefficients, center, scale, float(parameters["intercept"]))
        if scorer.n_features != n_features:
            raise ModelError(f"the model has {scorer.n_features} coefficients for {n_features} features")
    elif kind == "gradient_boosting":
        scorer = TreeEnsemble(list(parameters["trees"]), float(parameters["baseline"]), n_features)
    else:
        raise ModelError(f"no such kind of model: {kind!r}", remedy="Known kinds: logistic, gradient_boosting.")
    return scorer

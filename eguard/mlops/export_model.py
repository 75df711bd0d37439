"""From scikit-learn's fitted estimators to the model JSON that agents read (`eguard.detection.model`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from eguard.detection.fitted_tables import FittedTables
from eguard.detection.model import MODEL_FORMAT
from eguard.errors import ModelError


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """What every model JSON says beside its parameters."""

    version: str
    contract_sha256: str
    threshold: float
    tables: FittedTables
    platt_slope: float = 1.0
    platt_intercept: float = 0.0


def logistic_to_json(
    estimator: LogisticRegression,
    header: ModelHeader,
    *,
    center: NDArray[np.float64] | None = None,
    scale: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Return the JSON of a fitted two-class logistic regression on rows standardised by `center` and `scale`."""
    coefficients = np.asarray(estimator.coef_, np.float64)
    if coefficients.shape[0] != 1:
        raise ModelError(f"a two-class model has one row of coefficients, not {coefficients.shape[0]}")
    width = coefficients.shape[1]
    parameters = {
        "coefficients": coefficients[0].tolist(),
        "intercept": float(np.asarray(estimator.intercept_)[0]),
        "center": (np.zeros(width) if center is None else center).tolist(),
        "scale": (np.ones(width) if scale is None else scale).tolist(),
    }
    return _document("logistic", parameters, width, header)


def gradient_boosting_to_json(estimator: HistGradientBoostingClassifier, header: ModelHeader) -> dict[str, Any]:
    """Return the JSON of fitted two-class boosted trees.

    scikit-learn keeps a tree's nodes in a structured array that is not part of its public interface; an oracle test
    holds the JSON's predictions to scikit-learn's, so a change there fails loudly.

    Raises
    ------
    ModelError
        The estimator has more than two classes or splits on categories.
    """
    predictors = estimator._predictors  # noqa: SLF001 - see above
    if any(len(iteration) != 1 for iteration in predictors):
        raise ModelError("only two-class models are exported")
    trees = [_tree_to_json(iteration[0].nodes) for iteration in predictors]
    baseline = float(np.asarray(estimator._baseline_prediction).ravel()[0])  # noqa: SLF001
    return _document("gradient_boosting", {"baseline": baseline, "trees": trees}, estimator.n_features_in_, header)


def _tree_to_json(nodes: NDArray[Any]) -> dict[str, Any]:
    if nodes["is_categorical"].any():
        raise ModelError("trees with categorical splits are not exported")
    leaf = nodes["is_leaf"].astype(bool)
    return {
        "feature": np.where(leaf, -1, nodes["feature_idx"]).astype(int).tolist(),
        "threshold": np.where(leaf, 0.0, nodes["num_threshold"]).tolist(),
        "left": np.where(leaf, 0, nodes["left"]).astype(int).tolist(),
        "right": np.where(leaf, 0, nodes["right"]).astype(int).tolist(),
        "value": np.where(leaf, nodes["value"], 0.0).tolist(),
        "cover": nodes["count"].astype(int).tolist(),
    }


def _document(kind: str, parameters: dict[str, Any], n_features: int, header: ModelHeader) -> dict[str, Any]:
    return {
        "format": MODEL_FORMAT,
        "kind": kind,
        "version": header.version,
        "contract_sha256": header.contract_sha256,
        "n_features": int(n_features),
        "threshold": float(header.threshold),
        "platt": {"slope": float(header.platt_slope), "intercept": float(header.platt_intercept)},
        "tables": header.tables.to_json(),
        "parameters": parameters,
    }

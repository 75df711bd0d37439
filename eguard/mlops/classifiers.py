"""The two kinds of classifier that can ship: penalised logistic regression and small boosted trees."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # publishes no types

from eguard.mlops.export_model import ModelHeader, gradient_boosting_to_json, logistic_to_json

Floats = NDArray[np.float64]

#: Standard deviations below this are of constant columns, which are left alone.
_CONSTANT_SCALE: Final = 1e-9
#: Thresholds a tree may choose between, by feature; more only fit noise here and cost time.
_MAX_BINS: Final = 63


class Fitted(Protocol):
    """A fitted classifier."""

    def raw_logit(self, rows: Floats) -> Floats:
        """Return the uncalibrated logit of each row, shape (n,)."""

    def to_json(self, header: ModelHeader) -> dict[str, Any]:
        """Return the model JSON."""


class Specification(Protocol):
    """A kind of classifier with its hyperparameters."""

    @property
    def name(self) -> str:
        """Name in reports; tells the hyperparameters."""

    @property
    def kind(self) -> str:
        """``logistic`` or ``gradient_boosting``."""

    def fit(self, rows: Floats, labels: NDArray[np.int8], weights: Floats) -> Fitted:
        """Fit to rows (n, 43), labels 0 or 1 and positive weights."""

    def to_json(self) -> dict[str, Any]:
        """Return kind and hyperparameters; `specification_from_json` reads them."""


@dataclass(frozen=True, slots=True)
class FittedLogistic:
    """Logistic regression on standardised rows."""

    estimator: LogisticRegression
    center: Floats
    scale: Floats

    def raw_logit(self, rows: Floats) -> Floats:
        """Return the logit of each row."""
        coefficients = np.asarray(self.estimator.coef_[0], np.float64)
        logits: Floats = ((rows - self.center) / self.scale) @ coefficients + float(self.estimator.intercept_[0])
        return logits

    def to_json(self, header: ModelHeader) -> dict[str, Any]:
        """Return the model JSON."""
        return logistic_to_json(self.estimator, header, center=self.center, scale=self.scale)


@dataclass(frozen=True, slots=True)
class Logistic:
    """L2-penalised logistic regression by Newton's method; the bias is not penalised.

    Parameters
    ----------
    l2 : float
        Penalty on the squared coefficients of standardised rows, relative to the mean loss of a row.
    max_iterations : int
        Newton steps at most.
    """

    l2: float
    max_iterations: int

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"logistic l2={self.l2:g}"

    @property
    def kind(self) -> str:
        """Kind of the model JSON."""
        return "logistic"

    def fit(self, rows: Floats, labels: NDArray[np.int8], weights: Floats) -> Fitted:
        """Fit; one BLAS thread, so that sums are formed in one order."""
        with threadpool_limits(limits=1, user_api="blas"), warnings.catch_warnings():
            # A penalty path may stop at max_iterations; the report gives the steps taken.
            warnings.simplefilter("ignore", ConvergenceWarning)
            share = weights / weights.sum()
            center = share @ rows
            scale = np.sqrt(share @ (rows - center) ** 2)
            scale = np.where(scale > _CONSTANT_SCALE, scale, 1.0)
            estimator = LogisticRegression(
                C=1.0 / (self.l2 * float(weights.sum())), solver="newton-cholesky", max_iter=self.max_iterations
            )
            estimator.fit((rows - center) / scale, labels, sample_weight=weights)
        return FittedLogistic(estimator, center, scale)

    def to_json(self) -> dict[str, Any]:
        """Return kind and hyperparameters."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True)
class FittedBoosting:
    """Boosted trees."""

    estimator: HistGradientBoostingClassifier

    def raw_logit(self, rows: Floats) -> Floats:
        """Return the logit of each row."""
        return np.asarray(self.estimator.decision_function(rows), np.float64)

    def to_json(self, header: ModelHeader) -> dict[str, Any]:
        """Return the model JSON."""
        return gradient_boosting_to_json(self.estimator, header)


@dataclass(frozen=True, slots=True)
class Boosting:
    """Gradient boosting of small trees on histograms, without early stopping: a random part would tell nothing here.

    Parameters
    ----------
    max_iterations : int
        Trees.
    learning_rate : float
        Shrinkage of each tree.
    max_leaf_nodes : int
        Leaves of a tree; 4 allow interactions of up to three features.
    min_samples_leaf : int
        Rows in a leaf at least.
    l2 : float
        Penalty on leaf values.
    rising : tuple of int
        Features that may only raise the score. That a rule which was right more often raises less does occur in a
        training set of a few networks; it does not carry over to the next one.
    """

    max_iterations: int
    learning_rate: float
    max_leaf_nodes: int
    min_samples_leaf: int
    l2: float
    rising: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name in reports."""
        return f"gradient boosting, {self.max_leaf_nodes} leaves"

    @property
    def kind(self) -> str:
        """Kind of the model JSON."""
        return "gradient_boosting"

    def fit(self, rows: Floats, labels: NDArray[np.int8], weights: Floats) -> Fitted:
        """Fit on one thread; beyond 200,000 rows a fixed seed draws the sample that thresholds are chosen from.

        One thread, because here two gain little and, where other work runs, cost much: they wait for one another at
        every node of every tree. The result is the same. Several fits side by side use the cores better.
        """
        constraints = np.zeros(rows.shape[1])
        constraints[list(self.rising)] = 1.0
        estimator = HistGradientBoostingClassifier(
            max_iter=self.max_iterations,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2,
            max_bins=_MAX_BINS,
            monotonic_cst=constraints,
            early_stopping=False,
            random_state=0,
        )
        with threadpool_limits(limits=1, user_api="openmp"):
            return FittedBoosting(estimator.fit(rows, labels, sample_weight=weights))

    def to_json(self) -> dict[str, Any]:
        """Return kind and hyperparameters."""
        return {"kind": self.kind, **asdict(self)}


def specification_from_json(value: dict[str, Any]) -> Specification:
    """Return the specification that `to_json` wrote.

    Examples
    --------
    >>> specification_from_json(Logistic(l2=0.1, max_iterations=50).to_json())
    Logistic(l2=0.1, max_iterations=50)
    """
    settings: dict[str, Any] = {
        name: tuple(setting) if isinstance(setting, list) else setting
        for name, setting in value.items()
        if name != "kind"
    }
    return Logistic(**settings) if value["kind"] == "logistic" else Boosting(**settings)

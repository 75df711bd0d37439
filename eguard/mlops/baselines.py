"""Two baselines that any classifier of alerts has to beat: the rule's severity, and what each rule was worth before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from eguard.mlops.dataset import Dataset
from eguard.mlops.model_selection import FittingOptions, training_weights
from eguard.mlops.splits import Mask

Floats = NDArray[np.float64]


def severity_scores(data: Dataset, rows: Mask) -> Floats:
    """Return the severity of each row's rule, in [0, 1]: what a queue sorted by severity does."""
    return data.severity[rows]


class RuleLogistic:
    """Logistic regression on nothing but which rule fired, one-hot.

    A rule that the training rows do not hold scores the intercept.

    Parameters
    ----------
    data : Dataset
        All rows.
    training : ndarray of bool, shape (n,)
        Rows to fit to; unresolved ones are left out.
    options : FittingOptions
        Training weights as for the classifier.
    l2 : float
        Penalty on the coefficients, in rows.
    """

    def __init__(self, data: Dataset, training: Mask, options: FittingOptions, *, l2: float = 1.0) -> None:
        labelled = training & (data.labels >= 0)
        self._n_rules = len(data.names.rules)
        self._estimator = LogisticRegression(C=1.0 / l2, solver="newton-cholesky", max_iter=100)
        self._estimator.fit(
            self._one_hot(data.rules[labelled]),
            data.labels[labelled],
            sample_weight=training_weights(data, labelled, options),
        )

    def scores(self, data: Dataset, rows: Mask) -> Floats:
        """Return the probability of an attack for each row."""
        probabilities: Floats = self._estimator.predict_proba(self._one_hot(data.rules[rows]))[:, 1]
        return probabilities

    def _one_hot(self, rules: NDArray[np.intp]) -> csr_array:
        n = len(rules)
        return csr_array((np.ones(n), rules, np.arange(n + 1)), (n, self._n_rules))

"""Metrics of scored, labelled, weighted rows, computed for many resamplings at once.

Everything works on a `Tally`: the distinct scores, best first, and the weight of attacks and of other rows at each.
Leading axes of the weights are resamplings, so that a bootstrap of 200 costs a few array operations and not 200 sorts.
A metric that has no answer (average precision without an attack, say) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, chdtrc

Floats = NDArray[np.float64]

CALIBRATION_BINS: Final = 15
#: Below this many discordant pairs McNemar's test is exact.
EXACT_DISCORDANT: Final = 25
#: Probabilities are kept this far from 0 and 1 before a logarithm is taken.
LOG_LOSS_EPSILON: Final = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Tally:
    """Weights by distinct score.

    Parameters
    ----------
    scores : ndarray of shape (u,)
        Distinct scores, highest first.
    attacks, others : ndarray of shape (..., u)
        Weight of attacks and of other rows at each score; leading axes are resamplings.
    """

    scores: Floats
    attacks: Floats
    others: Floats


def tally(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Tally:
    """Return the tally of n rows.

    Parameters
    ----------
    labels : array_like of shape (n,)
        1 attack, 0 not.
    scores : array_like of shape (n,)
        Larger is more suspicious.
    weights : array_like of shape (n,), optional
        Rows that each row stands for; 1 by default.

    Examples
    --------
    >>> counts = tally([1, 0, 1], [0.9, 0.2, 0.2])
    >>> counts.scores.tolist(), counts.attacks.tolist(), counts.others.tolist()
    ([0.9, 0.2], [1.0, 1.0], [0.0, 1.0])
    """
    is_attack = np.asarray(labels) == 1
    weight = np.ones(len(is_attack)) if weights is None else np.asarray(weights, np.float64)
    rising, position = np.unique(np.asarray(scores, np.float64), return_inverse=True)
    attacks: Floats = np.bincount(position, weight * is_attack, rising.size).astype(np.float64)
    others: Floats = np.bincount(position, weight * ~is_attack, rising.size).astype(np.float64)
    return Tally(rising[::-1], attacks[::-1], others[::-1])


def average_precision(counts: Tally) -> Floats:
    """Return the mean precision over attacks, sum of (R_k - R_{k-1}) P_k over distinct scores; shape (...).

    Examples
    --------
    >>> float(average_precision(tally([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])).round(6))  # (1/1 + 2/3)/2
    0.833333
    """
    found = np.cumsum(counts.attacks, axis=-1)
    flagged = found + np.cumsum(counts.others, axis=-1)
    precision = _ratio(found, flagged, empty=0.0)
    return _ratio((counts.attacks * precision).sum(axis=-1), found[..., -1])


def roc_auc(counts: Tally) -> Floats:
    """Return the probability that an attack outranks another row, ties counting half; shape (...)."""
    found = np.cumsum(counts.attacks, axis=-1)
    others = counts.others.sum(axis=-1)
    outranked = (counts.others * (found - counts.attacks / 2.0)).sum(axis=-1)
    return _ratio(outranked, found[..., -1] * others)


def brier_score(counts: Tally) -> Floats:
    """Return the mean squared distance of the probability from the outcome; shape (...)."""
    squared = counts.attacks * (1.0 - counts.scores) ** 2 + counts.others * counts.scores**2
    return _ratio(squared.sum(axis=-1), (counts.attacks + counts.others).sum(axis=-1))


def log_loss(counts: Tally) -> Floats:
    """Return the mean negative log-likelihood in nats; shape (...)."""
    probability = np.clip(counts.scores, LOG_LOSS_EPSILON, 1.0 - LOG_LOSS_EPSILON)
    surprise = -(counts.attacks * np.log(probability) + counts.others * np.log1p(-probability))
    return _ratio(surprise.sum(axis=-1), (counts.attacks + counts.others).sum(axis=-1))


def equal_mass_bins(counts: Tally, n_bins: int = CALIBRATION_BINS) -> NDArray[np.intp]:
    """Return the bin of each distinct score, shape (u,): bins of equal weight, equal scores together.

    `counts` is without leading axes: all resamplings of a sample are judged on the sample's own bins.
    """
    mass = (counts.attacks + counts.others)[::-1]
    middle = np.cumsum(mass) - mass / 2.0
    bins: NDArray[np.intp] = np.minimum(n_bins * middle / mass.sum(), n_bins - 1).astype(np.intp)[::-1]
    return bins


def reliability(counts: Tally, bins: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """Return mean probability, share of attacks and weight of each bin, shape (..., n_bins); NaN in empty bins."""
    n_bins = int(bins.max()) + 1
    members = np.zeros((bins.size, n_bins))
    members[np.arange(bins.size), bins] = 1.0
    mass = (counts.attacks + counts.others) @ members
    predicted = ((counts.attacks + counts.others) * counts.scores) @ members
    return _ratio(predicted, mass), _ratio(counts.attacks @ members, mass), mass


def expected_calibration_error(counts: Tally, bins: NDArray[np.intp] | None = None) -> Floats:
    """Return the weighted mean distance between predicted and observed share over 15 equal-mass bins; shape (...)."""
    predicted, observed, mass = reliability(counts, equal_mass_bins(counts) if bins is None else bins)
    distance = np.where(mass > 0.0, np.abs(predicted - observed), 0.0)
    return _ratio((distance * mass).sum(axis=-1), mass.sum(axis=-1))


def recall_at_false_positive_rate(counts: Tally, rate: float) -> Floats:
    """Return the largest share of attacks found by a threshold that flags at most `rate` of the others; shape (...)."""
    found = np.cumsum(counts.attacks, axis=-1)
    false = np.cumsum(counts.others, axis=-1)
    # A share of the total is compared with slack: sums of weights carry rounding.
    allowed = false <= rate * false[..., -1:] * (1.0 + 1e-12)
    return _ratio(np.where(allowed, found, 0.0).max(axis=-1), found[..., -1])


def precision_at(counts: Tally, threshold: float) -> Floats:
    """Return the share of attacks among rows that score `threshold` or more; shape (...)."""
    flagged = counts.scores >= threshold
    attacks = (counts.attacks * flagged).sum(axis=-1)
    return _ratio(attacks, attacks + (counts.others * flagged).sum(axis=-1))


def recall_at(counts: Tally, threshold: float) -> Floats:
    """Return the share of attacks that score `threshold` or more; shape (...)."""
    flagged = counts.scores >= threshold
    return _ratio((counts.attacks * flagged).sum(axis=-1), counts.attacks.sum(axis=-1))


def base_rate(counts: Tally) -> Floats:
    """Return the share of attacks, which is what average precision amounts to at chance; shape (...)."""
    attacks = counts.attacks.sum(axis=-1)
    return _ratio(attacks, attacks + counts.others.sum(axis=-1))


def all_metrics(counts: Tally, *, threshold: float, bins: NDArray[np.intp]) -> dict[str, Floats]:
    """Return every metric of a report by name, each of shape (...)."""
    return {
        "average_precision": average_precision(counts),
        "roc_auc": roc_auc(counts),
        "brier": brier_score(counts),
        "log_loss": log_loss(counts),
        "ece": expected_calibration_error(counts, bins),
        "recall_at_fpr_0.001": recall_at_false_positive_rate(counts, 0.001),
        "recall_at_fpr_0.01": recall_at_false_positive_rate(counts, 0.01),
        "operating_precision": precision_at(counts, threshold),
        "operating_recall": recall_at(counts, threshold),
        "base_rate": base_rate(counts),
    }


def mcnemar(first: ArrayLike, second: ArrayLike) -> dict[str, Any]:
    """Test whether two classifiers are right on the same rows equally often.

    Parameters
    ----------
    first, second : array_like of bool, shape (n,)
        Whether each classifier decided each row correctly.

    Returns
    -------
    dict
        ``first_only``, ``second_only`` (discordant rows), ``p_value`` two-sided, ``method`` exact or chi2. The exact
        binomial test is used below 25 discordant rows, else the chi-square with continuity correction.

    References
    ----------
    Q. McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12, 1947.

    Examples
    --------
    >>> result = mcnemar([True] * 9 + [False], [False] * 9 + [True])
    >>> result["first_only"], result["second_only"], round(result["p_value"], 6), result["method"]
    (9, 1, 0.021484, 'exact')
    """
    a, b = np.asarray(first, np.bool_), np.asarray(second, np.bool_)
    first_only, second_only = int((a & ~b).sum()), int((~a & b).sum())
    discordant, fewer = first_only + second_only, min(first_only, second_only)
    if discordant < EXACT_DISCORDANT:
        # P(Binomial(n, 1/2) <= k) = I_{1/2}(n - k, k + 1).
        tail = float(betainc(discordant - fewer, fewer + 1, 0.5)) if fewer < discordant else 1.0
        p_value, method = min(1.0, 2.0 * tail), "exact"
    else:
        statistic = max(abs(first_only - second_only) - 1.0, 0.0) ** 2 / discordant
        p_value, method = float(chdtrc(1, statistic)), "chi2"
    return {"first_only": first_only, "second_only": second_only, "p_value": p_value, "method": method}


def _ratio(numerator: Floats, denominator: Floats, empty: float = np.nan) -> Floats:
    """Divide; `empty` where the denominator is 0."""
    result = np.full(np.broadcast(numerator, denominator).shape, empty)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0.0)
    return result

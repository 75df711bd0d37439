"""Dirichlet-multinomial posterior of a process key's profile under the fleet's seed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.errors import EstimatorInputError
from eguard.estimators.validation import as_counts, as_probabilities, in_open_interval

Array = NDArray[np.float64]

# A fresh seed weighs as much as this many local events ...
SEED_EVENTS = 100.0
# ... and nothing any more after this many.
SEED_HORIZON_EVENTS = 1000.0
# Added to every class of the fleet's median, so that no class has probability 0 by decree.
PRIOR_FLOOR = 1e-3


def seed_concentration(n: ArrayLike) -> Array:
    """Return the prior concentration kappa(n) = 100*max(0, 1 - n/1000) after `n` local events.

    Parameters
    ----------
    n : array_like
        Local events, not negative.

    Returns
    -------
    ndarray
        Shape of `n`, in pseudo-events; a NumPy scalar for one number.

    Raises
    ------
    EstimatorInputError
        `n` is empty, not finite or negative.

    Notes
    -----
    The concentration depends on the data, so that the posterior is a shrinkage rule and no Bayesian one: the fleet's
    word counts in full on the first day and not at all from 1000 local events on.

    Examples
    --------
    >>> seed_concentration([0, 500, 1000, 10_000]).tolist()
    [100.0, 50.0, 0.0, 0.0]
    """
    events = as_counts("n", n)
    kappa: Array = SEED_EVENTS * np.maximum(0.0, 1.0 - events / SEED_HORIZON_EVENTS)
    return kappa


def smoothed_prior_mean(median: ArrayLike, eta: float = PRIOR_FLOOR) -> Array:
    """Return the prior mean m = (median + eta)/(1 + eta*d) of a fleet's distribution.

    Parameters
    ----------
    median : array_like of shape (..., d)
        Distributions, each summing to 1 within 1e-6.
    eta : float, optional
        Probability added to each class before normalising, in (0, 1).

    Returns
    -------
    ndarray of shape (..., d)
        Positive, summing to 1.

    Raises
    ------
    EstimatorInputError
        `median` is no distribution or `eta` outside (0, 1).

    Examples
    --------
    >>> smoothed_prior_mean([0.5, 0.5, 0.0, 0.0], eta=0.25).tolist()
    [0.375, 0.375, 0.125, 0.125]
    """
    p = as_probabilities("median", median)
    floor = in_open_interval("eta", eta, 0.0, 1.0)
    raised = p + floor
    mean: Array = raised / raised.sum(axis=-1, keepdims=True)
    return mean


def dirichlet_posterior(prior_mean: ArrayLike, counts: ArrayLike, kappa: ArrayLike | None = None) -> Array:
    """Return the posterior mean theta_i = (kappa*m_i + n_i)/(kappa + n) of profiles.

    Prior and counts are separate arguments because they are stored separately: a seed can be replaced or withdrawn,
    and its pseudo-events never reach an upload, where the fleet would hear its own echo.

    Parameters
    ----------
    prior_mean : array_like of shape (..., d)
        Distributions m, each summing to 1 within 1e-6.
    counts : array_like of shape (..., d)
        Local events by class, not negative; broadcasts against `prior_mean`.
    kappa : array_like, optional
        Concentration, not negative: one number or the leading shape. Default :func:`seed_concentration` of the
        number of local events.

    Returns
    -------
    ndarray of shape (..., d)
        Rows sum to 1. The prior where there are no events, the local frequencies where kappa is 0.

    Raises
    ------
    EstimatorInputError
        An argument is invalid, shapes do not fit, or a profile has neither events nor a prior (n = kappa = 0).

    References
    ----------
    A. Gelman et al., "Bayesian Data Analysis", 3rd ed., 2013, section 3.4.

    Examples
    --------
    >>> dirichlet_posterior([0.6, 0.3, 0.1], [0, 0, 100], kappa=100).round(12).tolist()
    [0.3, 0.15, 0.55]
    >>> dirichlet_posterior([0.6, 0.3, 0.1], [[0, 0, 0], [250, 250, 500]]).tolist()
    [[0.6, 0.3, 0.1], [0.25, 0.25, 0.5]]
    """
    prior, events = as_probabilities("prior_mean", prior_mean), as_counts("counts", counts)
    if events.ndim == 0 or events.shape[-1] != prior.shape[-1]:
        raise EstimatorInputError(
            "counts", f"must have the {prior.shape[-1]} classes of prior_mean, got shape {events.shape}"
        )
    n = events.sum(axis=-1)
    concentration = seed_concentration(n) if kappa is None else as_counts("kappa", kappa)
    try:
        weight = np.broadcast_to(concentration, np.broadcast_shapes(np.shape(concentration), n.shape))[..., None]
        alpha = weight * (prior / prior.sum(axis=-1, keepdims=True))
        total = alpha + events
    except ValueError as error:
        raise EstimatorInputError("counts", f"shape {events.shape} does not fit the other arguments") from error
    size = total.sum(axis=-1, keepdims=True)
    if not math.isfinite(float(size.max())) or size.min() <= 0.0:
        raise EstimatorInputError("counts", "a profile needs events or a prior: n and kappa are both 0")
    posterior: Array = total / size
    return posterior

"""What a poisoned seed hides: windows of a malicious process, tested by an agent that trusts the fleet.

A new agent's baseline for a key is its own counts plus the fleet's seed, worth up to 100 events and nothing from 1,000
own events on. Its windows are compared with that baseline by the exact predictive test of layer 3. The attacker wants
the windows of an implant that runs under the key's name to pass; what counts is how much of a window may be the
implant's before the test says so, under a clean and under a poisoned seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.estimators import (
    kl_divergence_bits,
    predictive_kl_thresholds,
    seed_concentration,
    smoothed_prior_mean,
)

Floats = NDArray[np.float64]

#: Events of a window, and the false-alarm rate of the medium threshold, as in layer 3.
WINDOW_EVENTS: Final = 128
DELTA_MEDIUM: Final = 1e-3
#: Shares of a window that are the implant's.
MIXTURES: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
#: A mixture counts as found when the test flags this share of its windows.
FOUND_FRACTION: Final = 0.9


def hidden_by(
    clean: Floats,
    poisoned: Floats,
    target: Floats,
    *,
    local_events: Sequence[int],
    windows: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Return how windows fare under the clean and the poisoned seed, one row a number of own events.

    Parameters
    ----------
    clean, poisoned : ndarray of shape (8,)
        What the fleet published without and with the liars.
    target : ndarray of shape (8,)
        The implant's behaviour; the rest of a window is `clean`.
    local_events : sequence of int
        Own, ordinary events that the agent has learned.
    windows : int
        Windows drawn a mixture; the same windows are tested under both seeds.
    rng : numpy.random.Generator
        Draws the windows.

    Notes
    -----
    The agent's own counts are taken at their expectation and the process as multinomial (phi = 1), which is the test at
    its sharpest. Real keys are burstier, and their thresholds wider.
    """
    shares = np.array(MIXTURES)[:, None]
    drawn = rng.multinomial(
        WINDOW_EVENTS,
        np.broadcast_to((1 - shares) * clean + shares * target, (len(MIXTURES), 8)),
        (windows, len(MIXTURES)),
    )
    rows = []
    for n in local_events:
        row: dict[str, Any] = {"local_events": n, "seed_events": float(seed_concentration(n))}
        for name, published in (("clean", clean), ("poisoned", poisoned)):
            row[name] = _tested(drawn, n * clean, published, float(seed_concentration(n)))
        row["hidden_bits"] = row["clean"]["kl_bits"][-1] - row["poisoned"]["kl_bits"][-1]
        rows.append(row)
    return rows


def _tested(drawn: NDArray[np.int64], counts: Floats, published: Floats, kappa: float) -> dict[str, Any]:
    """Return mean divergence and flagged share of windows of shape (windows, n_mixtures, 8) under one seed."""
    prior = smoothed_prior_mean(published)
    divergence = kl_divergence_bits(drawn, counts + kappa * prior)
    threshold = predictive_kl_thresholds(
        counts, WINDOW_EVENTS, (DELTA_MEDIUM,), prior_mean=prior if kappa else None, kappa=kappa
    )[0]
    flagged = (divergence > threshold).mean(axis=0)
    found = np.flatnonzero(flagged >= FOUND_FRACTION)
    return {
        "threshold_bits": float(threshold) if np.isfinite(threshold) else None,
        "kl_bits": divergence.mean(axis=0).tolist(),
        "flagged_fraction": flagged.tolist(),
        "smallest_found_mixture": MIXTURES[int(found[0])] if found.size else None,
    }

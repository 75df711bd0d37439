"""Which signals enter the corpus, which are set aside for calibration, and for how many others each stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eguard.mlops.sampling import cap_floods, stratified_sample

#: Rows of this source come from the operator's own endpoints; all others are shipped ("external") data.
LIVE_SOURCE: Final = "live"


@dataclass(frozen=True, slots=True)
class SelectionLimits:
    """How many signals may stay.

    Parameters
    ----------
    sample_count : int
        Corpus rows at most.
    external_sample_cap : int
        Rows of shipped data at most; live data goes first.
    flood_cap : int
        Rows of one host and rule in one window of `flood_window_seconds`.
    flood_window_seconds : float
        Length of that window.
    min_stratum_rows : int
        Rows that each network, rule and label keeps when sampled down.
    """

    sample_count: int
    external_sample_cap: int
    flood_cap: int
    flood_window_seconds: float
    min_stratum_rows: int


def set_aside(signals: pd.DataFrame, rank: NDArray[np.int64], *, most: int, fraction: float) -> NDArray[np.bool_]:
    """Return which signals are reserved for calibration: of each source a uniform sample of those known as benign.

    At most `most` signals of a source and `fraction` of its benign ones.

    Where a source has a reservoir (`is_reservoir`), only that is uniform over its events; the alerts of other engines
    are all scored, so all of them are the population.
    """
    aside = np.zeros(len(signals), np.bool_)
    benign = (signals["label"] == 0).fillna(value=False).to_numpy(bool)
    source_of, reservoir = signals["source"].to_numpy(), signals["is_reservoir"].to_numpy(bool)
    for source in np.unique(source_of.astype(np.str_)).tolist():
        rows = np.flatnonzero(benign & (source_of == source))
        if reservoir[rows].any():
            rows = rows[reservoir[rows]]
        n_aside = min(most, int(fraction * len(rows)))
        aside[rows[np.argsort(rank[rows])[:n_aside]]] = True
    return aside


def select(
    signals: pd.DataFrame, rank: NDArray[np.int64], eligible: NDArray[np.bool_], limits: SelectionLimits
) -> tuple[NDArray[np.intp], NDArray[np.float64], dict[str, Any]]:
    """Choose the corpus among the eligible signals.

    Returns
    -------
    kept : ndarray of int
        Rising.
    weights : ndarray of float, shape (n_kept,)
        Signals that each row stands for.
    facts : dict
        What the cap and the sampling did.
    """
    hour = (signals["observed_at_unix"].to_numpy() // limits.flood_window_seconds).astype(np.int64)
    groups = [_codes(signals["host_id"]), _codes(signals["rule_id"]), hour]
    candidates = np.flatnonzero(eligible)
    capped, weights = cap_floods([group[candidates] for group in groups], rank[candidates], limits.flood_cap)
    cap_weight = np.zeros(len(signals))
    cap_weight[candidates] = weights
    capped = candidates[capped]
    label = signals["label"].fillna(-1).to_numpy(np.int64)
    strata = [_codes(signals["network"]), _codes(signals["rule_id"]), label]
    is_live = signals["source"].to_numpy() == LIVE_SOURCE
    weight = np.zeros(len(signals))
    n_live = 0
    chosen: list[NDArray[np.intp]] = []
    for rows, most in (
        (capped[is_live[capped]], limits.sample_count),
        (capped[~is_live[capped]], limits.external_sample_cap),
    ):
        budget = min(most, limits.sample_count - n_live)
        picked, share = stratified_sample(
            [stratum[rows] for stratum in strata], rank[rows], budget, limits.min_stratum_rows
        )
        weight[rows[picked]] = cap_weight[rows[picked]] * share
        chosen.append(rows[picked])
        n_live += len(picked)
    kept = np.sort(np.concatenate(chosen))
    return (
        kept,
        weight[kept],
        {
            "signals_per_host_rule_and_window": limits.flood_cap,
            "window_seconds": limits.flood_window_seconds,
            "signals_capped_away": len(candidates) - len(capped),
            "signals_after_cap": len(capped),
            "rows_sampled": len(kept),
            "largest_weight": float(weight.max(initial=0.0)),
        },
    )


def _codes(column: pd.Series[Any]) -> NDArray[np.int64]:
    return pd.factorize(column, sort=True)[0].astype(np.int64)

"""Which signals enter the corpus, and for how many others each stands."""

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


def select(
    signals: pd.DataFrame, rank: NDArray[np.int64], eligible: NDArray[np.bool_], limits: SelectionLimits
) -> tuple[NDArray[np.intp], NDArray[np.float64], dict[str, Any]]:
    """Choose the corpus among the `eligible` signals.

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
    capped, stands_for = cap_floods([group[candidates] for group in groups], rank[candidates], limits.flood_cap)
    weights = np.zeros(len(signals))
    weights[candidates] = stands_for * signals["weight"].to_numpy(np.float64)[candidates]
    capped = candidates[capped]
    label = signals["label"].fillna(-1).to_numpy(np.int64)
    strata = [_codes(signals["network"]), _codes(signals["rule_id"]), label]
    is_live = signals["source"].to_numpy() == LIVE_SOURCE
    weight = np.zeros(len(signals))
    n_live = 0
    chosen: list[NDArray[np.intp]] = []
    live, shipped = capped[is_live[capped]], capped[~is_live[capped]]
    for rows, most in ((live, limits.sample_count), (shipped, limits.external_sample_cap)):
        picked, stand_for = stratified_sample(
            [stratum[rows] for stratum in strata],
            rank[rows],
            weights[rows],
            budget=min(most, limits.sample_count - n_live),
            min_rows=limits.min_stratum_rows,
        )
        weight[rows[picked]] = stand_for
        chosen.append(rows[picked])
        n_live += len(picked)
    kept = np.sort(np.concatenate(chosen))
    facts = {
        "signals_per_host_rule_and_window": limits.flood_cap,
        "window_seconds": limits.flood_window_seconds,
        "signals_capped_away": len(candidates) - len(capped),
        "signals_after_cap": len(capped),
        "rows_sampled": len(kept),
        "largest_weight": float(weight.max(initial=0.0)),
    }
    return kept, weight[kept], facts


def _codes(column: pd.Series[Any]) -> NDArray[np.int64]:
    return pd.factorize(column, sort=True)[0].astype(np.int64)

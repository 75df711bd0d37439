"""The drift detectors, each with the settings it is tried at; the first of them is the default.

All work on many series that advance together and give alarms as times: an hour's alarm is raised when the hour ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.estimators import Adwin, CusumBank, RankStandardiser, conformal_rank
from eguard.estimators.divergence import LN2
from eguard.mlops.drift_counts import Divergence, Reference

Settings = Mapping[str, float]
Flags = NDArray[np.bool_]
#: Added to a divergence before its logarithm is taken; trials support it.
LOG_FLOOR_NATS: Final = 1e-9
#: Cycles that the conformal rule looks back on.
CONFORMAL_CYCLES: Final = 120


@dataclass(frozen=True, slots=True)
class Detector:
    """A detector on one kind of series.

    Attributes
    ----------
    name : str
        In reports.
    reference : str
        Which divergence it watches, "" for windows of alerts.
    grid : tuple of mapping
        Settings by name; the first is the default.
    raise_alarms : callable or None
        ``raise_alarms(divergence, settings)`` returns, each of shape (n_series, n_periods), where it alarms and where
        it was able to. None for windows of alerts, which have no periods.
    """

    name: str
    reference: Reference | None
    grid: tuple[Settings, ...]
    raise_alarms: Callable[[Divergence, Settings], tuple[Flags, Flags]] | None


def level(divergence: Divergence, settings: Settings) -> tuple[Flags, Flags]:
    """Alarm when the excess has been above ``level_nats`` for ``cycles`` periods with a value, once an excursion.

    Examples
    --------
    >>> excess = Divergence(np.array([[0.2, np.nan, 0.3, 0.4, 0.0, 0.2]]), np.zeros((1, 6)))
    >>> level(excess, {"level_nats": 0.1, "cycles": 2})[0].astype(int).tolist()
    [[0, 0, 1, 0, 0, 0]]
    """
    excess = divergence.excess_nats
    present = np.isfinite(excess)
    alarms = np.zeros(excess.shape, dtype=np.bool_)
    run = np.zeros(len(excess), dtype=np.int64)
    for period in range(excess.shape[1]):
        here = present[:, period]
        above = here & (excess[:, period] > settings["level_nats"])
        run[here] = np.where(above[here], run[here] + 1, 0)
        alarms[:, period] = above & (run == int(settings["cycles"]))
    return alarms, present


def conformal(divergence: Divergence, settings: Settings) -> tuple[Flags, Flags]:
    """Alarm when the excess is positive and above the conformal threshold, at ``alpha``, of the last 120 values."""
    excess = divergence.excess_nats
    alarms = np.zeros(excess.shape, dtype=np.bool_)
    armed = np.zeros(excess.shape, dtype=np.bool_)
    for series, values in enumerate(excess):
        periods = np.flatnonzero(np.isfinite(values))
        for i, period in enumerate(periods):
            past = values[periods[max(0, i - CONFORMAL_CYCLES) : i]]
            rank = _rank(len(past), settings["alpha"])
            if rank is not None:
                armed[series, period] = True
                alarms[series, period] = values[period] > max(0.0, np.partition(past, rank - 1)[rank - 1])
    return alarms, armed


def cusum(divergence: Divergence, settings: Settings) -> tuple[Flags, Flags]:
    """Alarm by one-sided CUSUM on the logarithm of the divergence, where that exceeds its bias."""
    logs = np.log(divergence.js_nats + LOG_FLOOR_NATS)
    burn_in = int(settings["burn_in"])
    bank = CusumBank(len(logs), settings["k"], settings["h"], burn_in)
    alarms = np.column_stack([bank.update(column) for column in logs.T]) if logs.shape[1] else logs.astype(np.bool_)
    return alarms & (divergence.excess_nats > 0.0), _after(logs, burn_in)


def adwin(divergence: Divergence, settings: Settings) -> tuple[Flags, Flags]:
    """Alarm by ADWIN on the divergence as a share of its maximum, as the operations manual has it."""
    return _adwin(divergence, divergence.js_nats / LN2, settings, None)


def rank_adwin(divergence: Divergence, settings: Settings) -> tuple[Flags, Flags]:
    """Alarm by ADWIN on the rank of the logarithm of the divergence in the normal law of its own past."""
    return _adwin(divergence, np.log(divergence.js_nats + LOG_FLOOR_NATS), settings, int(settings["burn_in"]))


def _adwin(
    divergence: Divergence, series: NDArray[np.float64], settings: Settings, burn_in: int | None
) -> tuple[Flags, Flags]:
    alarms = np.zeros(series.shape, dtype=np.bool_)
    for row, values in enumerate(series):
        detector = Adwin(settings["delta"])
        rank = None if burn_in is None else RankStandardiser(burn_in)
        for period in np.flatnonzero(np.isfinite(values)):
            before = detector.mean
            value = values[period] if rank is None else rank.update(values[period])
            # A cut to a lower mean is the end of a drift, not its beginning.
            if value is not None and detector.update(value) and detector.mean > before:
                alarms[row, period] = True
    grace = Adwin().grace_period + 1
    return alarms & (divergence.excess_nats > 0.0), _after(series, grace if burn_in is None else grace + burn_in)


def _after(values: NDArray[np.float64], count: int) -> Flags:
    """Return where more than `count` finite values of the row have been seen, the present one included."""
    present = np.isfinite(values)
    return present & (np.cumsum(present, axis=1) > count)


@lru_cache(maxsize=4096)
def _rank(n: int, alpha: float) -> int | None:
    return conformal_rank(n, alpha) if n else None


def detectors(grids: Mapping[str, Any]) -> tuple[Detector, ...]:
    """Return the detectors that the evaluation compares.

    Parameters
    ----------
    grids : mapping
        Settings of each kind: ``level``, ``conformal``, ``cusum``, ``adwin``, ``rank_adwin``, ``windows``.
    """
    found = [
        Detector("level, previous", "previous", grids["level"], level),
        Detector("conformal level, previous", "previous", grids["conformal"], conformal),
    ]
    for reference in ("pinned", "same_hour"):
        where: Reference = "pinned" if reference == "pinned" else "same_hour"
        text = reference.replace("_", " ")
        found += [
            Detector(f"level, {text}", where, grids["level"], level),
            Detector(f"CUSUM, {text}", where, grids["cusum"], cusum),
            Detector(f"ADWIN, {text}", where, grids["adwin"], adwin),
            Detector(f"rank ADWIN, {text}", where, grids["rank_adwin"], rank_adwin),
        ]
    return (
        *found,
        Detector("Page-Hinkley, KL of windows", None, grids["windows"], None),
        Detector("Page-Hinkley, rate of windows", None, grids["windows"], None),
    )

"""Drift detectors: the Page-Hinkley bank against a dictionary of river's detectors, ADWIN and window thresholds beside.

Every figure is the best of several repeats, taken in turns, so that a busy machine harms both sides alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from river import drift

from eguard.estimators import Adwin, PageHinkleyBank, predictive_kl_thresholds

STREAMS = 10_000
#: Updates before anything is timed: past the burn-in, where every stream does its full work.
WARM_UP = 40
REPEATS = 30


def _best_seconds(work: Callable[[int], object], repeats: int = REPEATS) -> float:
    best = float("inf")
    for i in range(repeats):
        start = time.perf_counter()
        work(i)
        best = min(best, time.perf_counter() - start)
    return best


def _row(name: str, ours: float, peer: float | None, unit: str, target: float | None = None) -> dict[str, Any]:
    """Build a row of rates: the higher the better, so the ratio is ours over the peer's."""
    ratio = None if peer is None else ours / peer
    return {"name": name, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "target_ratio": target}


def _bank_tick(values: np.ndarray, slots: slice | np.ndarray) -> Callable[[int], object]:
    bank = PageHinkleyBank(STREAMS)
    for tick in values[:WARM_UP]:
        bank.update(slots, tick)
    return lambda i: bank.update(slots, values[WARM_UP + i])


def _river_tick(values: np.ndarray) -> Callable[[int], object]:
    """Return a tick of river's detectors in a dictionary by process key, as a caller would hold them."""
    detectors = {f"image-{i}\tparent-{i % 97}": drift.PageHinkley(mode="up") for i in range(STREAMS)}
    keys = list(detectors)
    ticks = values[: REPEATS // 2].tolist()

    def tick(i: int) -> list[str]:
        alarms = []
        for key, x in zip(keys, ticks[i], strict=True):
            detector = detectors[key]
            detector.update(x)
            if detector.drift_detected:
                alarms.append(key)
        return alarms

    return tick


def _drift_rates(values: np.ndarray) -> tuple[float, float, float]:
    """Return updates a second of the bank on all streams, on listed streams and of river, measured turn by turn."""
    listed = np.random.default_rng(1).permutation(STREAMS)
    works = (_bank_tick(values, slice(None)), _bank_tick(values, listed), _river_tick(values))
    seconds = [float("inf")] * 3
    for _ in range(3):
        for side, (work, repeats) in enumerate(zip(works, (REPEATS, REPEATS, REPEATS // 2), strict=True)):
            seconds[side] = min(seconds[side], _best_seconds(work, repeats))
    return STREAMS / seconds[0], STREAMS / seconds[1], STREAMS / seconds[2]


def _adwin_rates() -> tuple[float, float]:
    """Values a second on a stationary stream of 5,000, cuts tried at every value."""
    stream = np.random.default_rng(1).beta(2, 18, 5000).tolist()

    def ours(_: int) -> None:
        detector = Adwin()
        for x in stream:
            detector.update(x)

    def rivers(_: int) -> None:
        detector = drift.ADWIN(clock=1)
        for x in stream:
            detector.update(x)

    return len(stream) / _best_seconds(ours, 5), len(stream) / _best_seconds(rivers, 5)


def run() -> list[dict[str, Any]]:
    values = np.random.default_rng(0).gamma(2.0, 0.02, size=(WARM_UP + REPEATS, STREAMS))
    everything, listed, river = _drift_rates(values)
    adwin, river_adwin = _adwin_rates()
    baseline = np.array([400, 250, 150, 90, 60, 30, 15, 5])
    plain = 1.0 / _best_seconds(lambda _: predictive_kl_thresholds(baseline), 10)
    bursty = 1.0 / _best_seconds(lambda _: predictive_kl_thresholds(baseline, phi=8.0), 5)
    return [
        _row("drift bank, all 10,000 streams a tick, standardised", everything, river, "updates/s", 100.0),
        _row("drift bank, 10,000 streams in shuffled order", listed, river, "updates/s"),
        _row("ADWIN, cuts tried at every value (river: Rust)", adwin, river_adwin, "values/s"),
        _row("window thresholds of a key, 1,000 events", plain, None, "keys/s"),
        _row("window thresholds of a bursty key, phi 8", bursty, None, "keys/s"),
    ]


if __name__ == "__main__":
    for measured in run():
        print(measured)

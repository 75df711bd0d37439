"""The test of a closed window: KL divergence from the key's baseline against that key's own thresholds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.engine_options import WindowOptions
from eguard.detection.window_screen import threshold_lower_bound_bits
from eguard.estimators import predictive_kl_thresholds
from eguard.events import N_EVENT_CLASSES

#: Pseudo-count of each class in the smoothed baseline.
SMOOTHING: Final = 0.5
#: Columns of what a key's windows are compared with: the evidence and the overdispersion as of which it was computed,
#: what the medium threshold is at least, and both exact thresholds, NaN until they were needed.
_EVIDENCE, _PHI, _LOWER_BOUND, _MEDIUM, _HIGH, _N_COLUMNS = range(6)

FloatArray = NDArray[np.float64]


class WindowLevel(IntEnum):
    """How far a window lies from its baseline. `UNTESTED` is a key with too little history to say."""

    UNTESTED = -1
    NONE = 0
    MEDIUM = 1
    HIGH = 2


@dataclass(frozen=True, slots=True)
class WindowScore:
    """One window against its baseline.

    `expected` is the baseline's smoothed distribution over the event classes. The thresholds are infinite where nothing
    reaches them, and NaN where the divergence was too small to need them. `is_uninformative` says that no window of
    this key could exceed the medium threshold.
    """

    level: WindowLevel
    kl_bits: float
    expected: tuple[float, ...]
    baseline_events: int
    overdispersion: float
    threshold_medium_bits: float = math.nan
    threshold_high_bits: float = math.nan
    is_uninformative: bool = False


class WindowTest:
    """Thresholds and overdispersion of many keys, addressed by slot.

    The thresholds are those of the exact Dirichlet-multinomial predictive, widened by the key's overdispersion: real
    windows are burstier than independent draws. They are computed when a window first comes near them and kept until
    the baseline or the overdispersion has moved by a tenth.

    Parameters
    ----------
    options : WindowOptions
        Settings of layer 3.
    """

    def __init__(self, options: WindowOptions) -> None:
        self._options = options
        self.fleet_overdispersion = options.default_overdispersion
        # By slot. The last ratios of a key are a ring; their mean is the same from wherever it is summed.
        self._ratios = np.zeros((0, options.overdispersion_windows))
        self._n_ratios = np.zeros(0, dtype=np.int64)
        self._thresholds = np.zeros((0, _N_COLUMNS))
        # Of keys whose seed still had weight when their thresholds were computed: its mean, as bytes.
        self._prior_means: dict[int, bytes] = {}

    def _reserve(self, n_slots: int) -> None:
        size = len(self._n_ratios)
        if n_slots <= size:
            return
        new = max(n_slots, 2 * size) - size
        self._ratios = np.pad(self._ratios, ((0, new), (0, 0)))
        self._n_ratios = np.pad(self._n_ratios, (0, new))
        self._thresholds = np.pad(self._thresholds, ((0, new), (0, 0)), constant_values=np.nan)

    def forget(self, slot: int) -> None:
        """Forget the key in `slot`."""
        self._prior_means.pop(slot, None)
        if slot < len(self._n_ratios):
            self._n_ratios[slot] = 0
            self._thresholds[slot] = np.nan

    def own_overdispersion(self, slot: int) -> float | None:
        """Return the key's own overdispersion, or None while it has too few tested windows."""
        if slot >= len(self._n_ratios):
            return None
        ratios = self._ratios[slot, : self._n_ratios[slot]].tolist()
        if len(ratios) < max(self._options.min_overdispersion_windows, 1):
            return None
        return max(1.0, math.fsum(ratios) / len(ratios))

    def score(
        self,
        slots: NDArray[np.intp],
        windows: NDArray[np.int64],
        counts: NDArray[np.int64],
        prior_mean: FloatArray,
        concentration: FloatArray,
    ) -> list[WindowScore]:
        """Test one closed window for each of `slots`, which are distinct, and learn their overdispersion.

        Parameters
        ----------
        slots : ndarray of shape (k,)
            Keys.
        windows : ndarray of shape (k, 8)
            Events of the window by class.
        counts, prior_mean, concentration : ndarray of shape (k, 8), (k, 8), (k,)
            What each key has learned before this window, and its prior.
        """
        self._reserve(int(slots.max(initial=-1)) + 1)
        size = self._options.window_events
        informed = counts + concentration[:, None] * prior_mean
        total = informed.sum(axis=1, keepdims=True)
        expected = (informed + SMOOTHING) / (total + SMOOTHING * N_EVENT_CLASSES)
        shares = windows / size
        # 0 log 0 = 0: an absent class adds nothing.
        log_ratios = np.log2(np.where(windows > 0, shares, 1.0) / np.where(windows > 0, expected, 1.0))
        kl_bits = np.maximum(np.sum(shares * log_ratios, axis=1), 0.0)
        is_tested = (counts.sum(axis=1) >= self._options.min_baseline_events) | (concentration > 0.0)
        # Classes that the key never showed have no part in the chi-square of its ordinary windows.
        freedom = np.maximum((informed > 0.0).sum(axis=1) - 1, 1)
        ratios = np.sum((windows - size * expected) ** 2 / (size * expected), axis=1) / freedom
        scores = []
        for row, slot in enumerate(slots.tolist()):
            score = WindowScore(
                level=WindowLevel.NONE if is_tested[row] else WindowLevel.UNTESTED,
                kl_bits=float(kl_bits[row]),
                expected=tuple(expected[row].tolist()),
                baseline_events=int(counts[row].sum()),
                overdispersion=self.own_overdispersion(slot) or self.fleet_overdispersion,
            )
            if is_tested[row]:
                prior = (prior_mean[row], float(concentration[row]))
                score = self._compare(score, counts[row], prior, slot)
                self._learn_dispersion(slot, float(ratios[row]))
            scores.append(score)
        return scores

    def _compare(
        self, score: WindowScore, counts: NDArray[np.int64], prior: tuple[FloatArray, float], slot: int
    ) -> WindowScore:
        """Return the score with its level, and with the thresholds if it needed them."""
        known = self._known_thresholds(slot, score, prior)
        lower_bound = float(known[_LOWER_BOUND])
        # The largest divergence is that of a window with nothing but the rarest class.
        largest_bits = -math.log2(min(score.expected))
        if score.kl_bits <= lower_bound:
            return replace(score, is_uninformative=True) if lower_bound >= largest_bits else score
        if np.isnan(known[_MEDIUM]):
            known[[_MEDIUM, _HIGH]] = self._exact(counts, prior, float(known[_PHI]))
        medium, high = known[[_MEDIUM, _HIGH]].tolist()
        level = score.level
        if score.kl_bits > medium:
            level = WindowLevel.HIGH if score.kl_bits > high else WindowLevel.MEDIUM
        return replace(
            score,
            level=level,
            threshold_medium_bits=medium,
            threshold_high_bits=high,
            is_uninformative=medium >= largest_bits,
        )

    def _known_thresholds(self, slot: int, score: WindowScore, prior: tuple[FloatArray, float]) -> FloatArray:
        """Return the key's thresholds, begun anew if its baseline, its seed or its overdispersion has moved.

        The array, shape (5,), is the one that is kept.
        """
        mean, kappa = prior
        evidence, phi = score.baseline_events + kappa, score.overdispersion
        prior_mean = mean.tobytes() if kappa else b""
        known: FloatArray = self._thresholds[slot]
        evidence_then, phi_then = known[[_EVIDENCE, _PHI]].tolist()  # NaN, as of no time, compares with nothing
        share = self._options.recompute_fraction
        if (
            self._prior_means.get(slot, b"") != prior_mean
            or not 0.0 <= evidence - evidence_then <= share * evidence_then
            or abs(phi - phi_then) > share * phi_then
        ):
            known[:] = (evidence, phi, self._lower_bound(np.array(score.expected), evidence, phi), np.nan, np.nan)
            if kappa:
                self._prior_means[slot] = prior_mean
            else:
                self._prior_means.pop(slot, None)
        return known

    def _lower_bound(self, expected: FloatArray, evidence: float, phi: float) -> float:
        size = self._options.window_events
        if phi >= size:
            return 0.0  # the exact thresholds are infinite, and cost nothing
        concentration = evidence + SMOOTHING * N_EVENT_CLASSES
        widened = 1.0 / ((phi - 1.0) / (size - phi) + 1.0 / concentration)
        return threshold_lower_bound_bits(expected, widened, size, self._options.delta_medium)

    def _exact(self, counts: NDArray[np.int64], prior: tuple[FloatArray, float], phi: float) -> tuple[float, float]:
        mean, kappa = prior
        options = self._options
        medium, high = predictive_kl_thresholds(
            counts,
            window=options.window_events,
            deltas=(options.delta_medium, options.delta_high),
            prior_mean=mean if kappa else None,
            kappa=kappa,
            phi=phi,
            smoothing=SMOOTHING,
            # The tail widens with the overdispersion, and the grid with it.
            grid_bits=options.grid_bits * phi,
        ).tolist()
        return medium, high

    def _learn_dispersion(self, slot: int, ratio: float) -> None:
        # A Dirichlet-multinomial window varies at most `window_events` times as much as a multinomial one. Without this
        # bound a single event of a class never seen before would blind the key for dozens of windows.
        place = int(self._n_ratios[slot]) % self._options.overdispersion_windows
        self._ratios[slot, place] = min(ratio, float(self._options.window_events))
        self._n_ratios[slot] += 1

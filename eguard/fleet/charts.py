"""The detectors of the whole fleet's two series: what each is held against, and what is kept of it between cycles.

Against the **pinned reference** a lasting shift shows in every cycle: a CUSUM finds it within a few, and ADWIN on ranks
is the second opinion. Against the **previous generation** the same shift is one spike and then nothing, so that only
the manual's plain ADWIN and the level rule watch that series.

What is suspected must not become ordinary: as long as an alarm of the series is open, its values are judged and not
learned. And the moments of the last quiet cycle are kept, for an operator who finds that the shift was an attack:
`calm` goes on from there, as if the attack had not been measured.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Self

import msgspec

from eguard.estimators import Adwin, Cusum, RankStandardiser
from eguard.estimators.adwin import AdwinState

STATE_VERSION: Final = 1
PREVIOUS: Final = "previous"
REFERENCE: Final = "reference"
#: Divergences far below this differ by chance alone; the logarithm needs a floor.
JS_FLOOR_NATS: Final = 1e-6
#: The operations manual's line: divergence less its bias, in two cycles after each other.
LEVEL_NATS: Final = 0.1
LEVEL_CYCLES: Final = 2
BURN_IN_CYCLES: Final = 30
CUSUM_K: Final = 0.5
CUSUM_H: Final = 8.0
CUSUM_CAP: Final = 4.0
ADWIN_DELTA: Final = 0.002
#: Largest Jensen-Shannon divergence: what brings the series into ADWIN's range.
JS_MAX_NATS: Final = math.log(2.0)


class Finding(NamedTuple):
    """What one detector found: `value` passed `threshold`, both in the detector's own unit."""

    kind: str
    value: float
    threshold: float


class Measured(NamedTuple):
    """One value of a series: the support-weighted mean divergence, its bias, and the generation compared with."""

    js_nats: float
    bias_nats: float
    other_generation: int


class _Quiet(msgspec.Struct, frozen=True):
    cusum: tuple[float, int, float, float]
    rank: tuple[int, float, float]
    adwin: AdwinState


class _State(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    reference: int
    cusum: tuple[float, int, float, float]
    rank: tuple[int, float, float]
    adwin: AdwinState
    above: int
    quiet: _Quiet | None


class ReferenceChart:
    """CUSUM, ADWIN on ranks and the level rule on the divergence from the pinned reference.

    Notes
    -----
    The CUSUM is one-sided, k 0.5, h 8, on log(JS + 1e-6) standardised by all earlier values after 30, no increment
    above 4. ADWIN's window is cut on a fall as well; only a rise is an alarm. When another reference is pinned,
    everything begins anew.

    Examples
    --------
    >>> chart = ReferenceChart()
    >>> noise = [Measured(0.001 * (1.2 if i % 2 else 0.8), 0.001, 1) for i in range(40)]
    >>> any(chart.update(value) for value in noise)
    False
    >>> [len(chart.update(Measured(0.01, 0.001, 1))) for _ in range(3)]
    [0, 0, 1]
    """

    compared_with = REFERENCE

    def __init__(self) -> None:
        self._begin(0)

    def _begin(self, reference: int) -> None:
        self.reference = reference
        self.cusum = Cusum(CUSUM_K, CUSUM_H, BURN_IN_CYCLES, CUSUM_CAP)
        self.rank = RankStandardiser(BURN_IN_CYCLES)
        self.adwin = Adwin(ADWIN_DELTA)
        self.above = 0
        self._quiet: _Quiet | None = None

    def update(self, value: Measured, *, is_suspected: bool = False) -> list[Finding]:
        """Take one cycle's value and return what it raises; a suspected one is judged and not learned."""
        if value.other_generation != self.reference:
            self._begin(value.other_generation)
        found: list[Finding] = []
        series = math.log(value.js_nats + JS_FLOOR_NATS)
        if self.cusum.update(series, learn=not is_suspected):
            found.append(Finding("cusum", self.cusum.statistic, CUSUM_H))
        rank = self.rank.update(series, learn=not is_suspected)
        if rank is not None and (risen := _risen(self.adwin, rank)):
            found.append(Finding("rank_adwin", risen[1], risen[0]))
        self.above, level = _level(self.above, value)
        if not is_suspected and not found and self.cusum.statistic == 0.0:
            self._quiet = _Quiet(self.cusum.state(), self.rank.state(), self.adwin.state())
        return found + level

    def calm(self) -> None:
        """Go on from the last quiet cycle: what came since was an attack."""
        self.above = 0
        if self._quiet is None:
            self.cusum.statistic = 0.0
            return
        self.cusum.restore(self._quiet.cusum)
        self.rank.restore(self._quiet.rank)
        self.adwin.restore(self._quiet.adwin)

    def pause(self) -> None:
        """Pass over a generation that an operator published: it is no cycle of the fleet."""
        self.above = 0

    def encode(self) -> bytes:
        """Return everything as JSON."""
        state = _State(
            version=STATE_VERSION,
            reference=self.reference,
            cusum=self.cusum.state(),
            rank=self.rank.state(),
            adwin=self.adwin.state(),
            above=self.above,
            quiet=self._quiet,
        )
        return msgspec.json.encode(state)

    @classmethod
    def decode(cls, text: str | bytes) -> Self:
        """Return the chart of a stored state; a new one if another version of this program wrote it."""
        chart = cls()
        if msgspec.json.decode(text, type=_Versioned).version != STATE_VERSION:
            return chart
        state = msgspec.json.decode(text, type=_State)
        chart.reference, chart.above = state.reference, state.above
        chart.cusum.restore(state.cusum)
        chart.rank.restore(state.rank)
        chart.adwin.restore(state.adwin)
        chart._quiet = state.quiet
        return chart

    def to_dict(self) -> dict[str, float | int | bool]:
        """Return what operators look at."""
        return {
            "cycles": self.cusum.count,
            "is_learning": self.cusum.count < BURN_IN_CYCLES,
            "cusum": self.cusum.statistic,
            "cusum_threshold": CUSUM_H,
            "rank_mean": self.adwin.mean,
            "adwin_width": self.adwin.width,
            "cycles_above_level": self.above,
        }


class _PreviousState(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    adwin: AdwinState
    above: int


class _Versioned(msgspec.Struct, frozen=True):
    version: int


class PreviousChart:
    """The manual's ADWIN on the divergence from the generation before, and the level rule.

    Examples
    --------
    >>> chart = PreviousChart()
    >>> [[finding.kind for finding in chart.update(Measured(0.2, 0.01, i))] for i in range(3)]
    [[], ['js_level'], ['js_level']]
    """

    compared_with = PREVIOUS

    def __init__(self) -> None:
        self.adwin = Adwin(ADWIN_DELTA)
        self.above = 0

    def update(self, value: Measured, *, is_suspected: bool = False) -> list[Finding]:  # noqa: ARG002 - as the other
        """Take one cycle's value and return what it raises."""
        found: list[Finding] = []
        if risen := _risen(self.adwin, min(value.js_nats / JS_MAX_NATS, 1.0)):
            found.append(Finding("adwin", risen[1] * JS_MAX_NATS, risen[0] * JS_MAX_NATS))
        self.above, level = _level(self.above, value)
        return found + level

    def calm(self) -> None:
        """Forget how many cycles were above the level."""
        self.above = 0

    pause = calm

    def encode(self) -> bytes:
        """Return everything as JSON."""
        return msgspec.json.encode(
            _PreviousState(version=STATE_VERSION, adwin=self.adwin.state(), above=self.above)
        )  # fmt: skip

    @classmethod
    def decode(cls, text: str | bytes) -> Self:
        """Return the chart of a stored state; a new one if another version of this program wrote it."""
        chart = cls()
        if msgspec.json.decode(text, type=_Versioned).version != STATE_VERSION:
            return chart
        state = msgspec.json.decode(text, type=_PreviousState)
        chart.adwin.restore(state.adwin)
        chart.above = state.above
        return chart

    def to_dict(self) -> dict[str, float | int | bool]:
        """Return what operators look at."""
        return {
            "adwin_mean_nats": self.adwin.mean * JS_MAX_NATS,
            "adwin_width": self.adwin.width,
            "cycles_above_level": self.above,
        }


def _risen(window: Adwin, value: float) -> tuple[float, float] | None:
    """Return the window's mean before and after a cut that raised it, None if there was none."""
    before = window.mean
    if window.update(value) and window.mean > before:
        return before, window.mean
    return None


def _level(above: int, value: Measured) -> tuple[int, list[Finding]]:
    """Return the cycles above the level by now, and the finding if those are enough."""
    excess = value.js_nats - value.bias_nats
    above = above + 1 if excess > LEVEL_NATS else 0
    return above, [Finding("js_level", excess, LEVEL_NATS)] if above >= LEVEL_CYCLES else []

"""Parameters of the drift stage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from eguard.mlops.drift_counts import DAY_HOURS
from eguard.mlops.drift_detectors import Detector, Settings, detectors
from eguard.mlops.drift_streams import SeriesOptions


class DriftParams(BaseModel):
    """What is compared with what, and the settings that are tried: of every list the first is the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attack_windows: str = Field(
        default="data/raw/alerts-ait/attack_windows.csv",
        description="Table of onsets, relative to the workspace; no attack is known if it is missing.",
    )
    reference_days: int = Field(default=1, ge=1, description="First days of a network, pinned as its reference.")
    min_events: int = Field(default=10, ge=1, description="Fewest alerts of a period that is compared.")
    same_hour_width: int = Field(
        default=1, ge=0, le=11, description="Hours on either side that the reference of an hour of the day takes in."
    )
    episode_gap_hours: float = Field(
        default=6.0, gt=0.0, description="Steps of an attack with less than this between them are one episode."
    )
    horizon_hours: float = Field(
        default=6.0, gt=0.0, description="How long after an episode an alarm counts as its detection; a day for days."
    )
    max_false_alarms_per_week: float = Field(
        default=2.0, gt=0.0, description="Most that a setting chosen on one network may raise there."
    )
    max_false_alarms_per_host_week: float = Field(
        default=0.2, gt=0.0, description="The same for the series of hosts, a host and week."
    )
    level_nats: tuple[float, ...] = Field(
        default=(0.1, 0.05, 0.2, 0.3, 0.4), min_length=1, description="Levels of the excess over the bias."
    )
    level_cycles: tuple[int, ...] = Field(
        default=(2, 1), min_length=1, description="Periods running that the excess has to be above the level."
    )
    conformal_alpha: tuple[float, ...] = Field(
        default=(0.01, 0.02, 0.05), min_length=1, description="False-positive rates of the conformal level."
    )
    cusum_k: tuple[float, ...] = Field(default=(0.5, 1.0), min_length=1, description="Reference values, deviations.")
    cusum_h: tuple[float, ...] = Field(
        default=(8.0, 4.0, 12.0), min_length=1, description="Decision intervals, deviations."
    )
    burn_in: tuple[int, ...] = Field(
        default=(30, 15), min_length=1, description="Periods that CUSUM only learns from; rank ADWIN takes the first."
    )
    adwin_delta: tuple[float, ...] = Field(
        default=(0.002, 0.05, 0.3), min_length=1, description="Confidence parameters of ADWIN."
    )
    page_hinkley_delta: tuple[float, ...] = Field(
        default=(0.5, 1.0), min_length=1, description="Tolerances, deviations."
    )
    page_hinkley_threshold: tuple[float, ...] = Field(
        default=(20.0, 10.0, 40.0), min_length=1, description="Thresholds, deviations."
    )
    page_hinkley_burn_in: int = Field(default=30, ge=2, description="Windows that Page-Hinkley only learns from.")
    window_events: int = Field(default=128, ge=2, description="Alerts of a window.")
    baseline_captures: int = Field(default=5, ge=1, description="First captures of a host that are its reference.")
    min_captures: int = Field(default=8, ge=2, description="Captures that a host must have to be followed.")
    min_capture_events: int = Field(default=100, ge=2, description="Events of a host in a capture that counts.")

    @model_validator(mode="after")
    def _captures_remain(self) -> Self:
        if self.min_captures <= self.baseline_captures:
            raise ValueError("min_captures must exceed baseline_captures, or nothing is left to compare")
        return self

    def series_options(self) -> SeriesOptions:
        """Return how series are made."""
        return SeriesOptions(
            reference_hours=self.reference_days * DAY_HOURS,
            min_events=self.min_events,
            same_hour_width=self.same_hour_width,
            window_events=self.window_events,
        )

    def detectors(self) -> tuple[Detector, ...]:
        """Return the detectors with their grids."""
        return detectors(
            {
                "level": _grid(level_nats=self.level_nats, cycles=self.level_cycles),
                "conformal": _grid(alpha=self.conformal_alpha),
                "cusum": _grid(k=self.cusum_k, h=self.cusum_h, burn_in=self.burn_in),
                "adwin": _grid(delta=self.adwin_delta),
                "rank_adwin": _grid(delta=self.adwin_delta, burn_in=self.burn_in[:1]),
                "windows": _grid(
                    delta=self.page_hinkley_delta,
                    threshold=self.page_hinkley_threshold,
                    burn_in=(self.page_hinkley_burn_in,),
                ),
            }
        )


def _grid(**values: Sequence[float]) -> tuple[Settings, ...]:
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))

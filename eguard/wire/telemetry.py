"""Alerts and calibration samples on their way to the server."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from eguard.wire.baseline import TimeUnix, WireName
from eguard.wire.distribution import ClassName

#: Cap on one telemetry or calibration body after decompression.
MAX_TELEMETRY_BYTES: Final = 4_000_000
MAX_TELEMETRY_ALERTS: Final = 1000


class TelemetryBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alerts of one agent, oldest first; each is the JSON of `eguard.detection.alert.Alert`."""

    agent_id: WireName
    batch_id: WireName
    alerts: Annotated[list[dict[str, Any]], Meta(max_length=MAX_TELEMETRY_ALERTS)]


class TelemetryRejection(Struct, frozen=True):
    """An alert that was not taken: its index, a stable code, a sentence."""

    index: int
    code: str
    detail: str


class TelemetryAnswer(Struct, frozen=True, kw_only=True):
    """What became of a batch. Alerts that were there before are counted as `duplicate`, and are no error."""

    accepted: int
    duplicate: int
    rejected: list[TelemetryRejection] = []


class CalibrationSample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scored event drawn uniformly, for calibration: the 43 features in the contract's order."""

    sample_id: WireName
    event_class: ClassName
    features: Annotated[list[float], Meta(min_length=43, max_length=43)]
    contract_hash: Annotated[str, Meta(min_length=64, max_length=64)]
    observed_at_unix: TimeUnix


class CalibrationBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calibration samples of one agent."""

    agent_id: WireName
    batch_id: WireName
    samples: Annotated[list[CalibrationSample], Meta(max_length=1000)]

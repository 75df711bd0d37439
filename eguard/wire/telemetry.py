"""Alerts and calibration samples on their way to the server."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from eguard.wire.baseline import TimeUnix, WireName
from eguard.wire.control import Digest
from eguard.wire.distribution import ClassName

#: Cap on one telemetry or calibration body after decompression.
MAX_TELEMETRY_BYTES: Final = 4_000_000
MAX_TELEMETRY_ALERTS: Final = 1000
MAX_CALIBRATION_SAMPLES: Final = 1000

#: Class of a scored event; events that no baseline counts are scored, too.
SampleClass = Literal[ClassName, "uncounted"]


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
    """A scored event drawn uniformly, for calibration: the 43 features in the contract's order.

    Attributes
    ----------
    signal : str
        What counts as its rule: the rule that leads, or the process and the kind of event.
    score, model_digest : float, str or None
        What which model said of it; None where no classifier was loaded.
    event_id : str or None
        The alert that it gave, so that a verdict on that is one on the sample.
    """

    sample_id: WireName
    event_class: SampleClass
    features: Annotated[list[float], Meta(min_length=43, max_length=43)]
    contract_hash: Annotated[str, Meta(min_length=64, max_length=64)]
    observed_at_unix: TimeUnix
    signal: Annotated[str, Meta(max_length=255)] = ""
    score: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    model_digest: Digest | None = None
    event_id: WireName | None = None


class CalibrationBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calibration samples of one agent."""

    agent_id: WireName
    batch_id: WireName
    samples: Annotated[list[CalibrationSample], Meta(max_length=MAX_CALIBRATION_SAMPLES)]

"""An alert with everything that an analyst needs to judge it, as one record."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec


class Contribution(msgspec.Struct, frozen=True):
    """One feature's share of the classifier's logit."""

    feature: str
    value: float
    logit: float


class MatchedRule(msgspec.Struct, frozen=True):
    """A rule that matched: id and author have to be shown with it (Detection Rule License 1.1)."""

    rule_id: str
    title: str
    level: str
    author: str
    techniques: tuple[str, ...]
    matched_fields: tuple[tuple[str, str], ...] = ()


class WindowComparison(msgspec.Struct, frozen=True):
    """The process key's last window beside its baseline, over the eight event classes."""

    window: tuple[float, ...]
    baseline: tuple[float, ...]
    kl_bits: float
    threshold_bits: float | None


class BeaconEvidence(msgspec.Struct, frozen=True):
    """A destination whose beacon score exceeds the calibrated threshold.

    `score` is `regularity` times `rarity`. It is a confirmed beacon where the threshold was calibrated on destinations
    enough and the fleet's table of destinations is there; else it is advisory and raises no confidence.
    """

    destination: str
    score: float
    regularity: float
    rarity: float
    threshold: float
    period_seconds: float
    n_observations: int
    is_confirmed: bool


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert.

    `score`, `logit`, `base_logit`, `p_value` and `threshold` are None while no model is loaded, and `threshold` is also
    None while calibration is insufficient. `contributions` are the five largest; with those of the other features and
    `base_logit` they sum to `logit`. `ancestors` are nearest first. `response` is ``alert_only`` while the baseline is
    learning. `features` is the feature row that was scored, in the order of the contract that `feature_contract` names
    by its hash: what retraining learns from once the alert has a verdict. `signal` is what counts as its rule there:
    the rule that leads, or the process and the kind of event. `window_id` names the window of its process key that the
    event falls into: if that is held back from learning, a verdict on the alert releases or drops it under this name.
    """

    alert_id: str
    host_id: str
    observed_at_unix: float
    event_class: str
    process_key: str
    confidence: str
    response: str
    reasons: tuple[str, ...]
    score: float | None = None
    logit: float | None = None
    base_logit: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    model_version: str = ""
    baseline_version: int = 0
    contributions: tuple[Contribution, ...] = ()
    features: tuple[float, ...] = ()
    feature_contract: str = ""
    signal: str = ""
    ancestors: tuple[str, ...] = ()
    rules: tuple[MatchedRule, ...] = ()
    techniques: tuple[str, ...] = ()
    tactics: tuple[str, ...] = ()
    window: WindowComparison | None = None
    window_id: str = ""
    beacon: BeaconEvidence | None = None
    command_line: str = ""
    target: str = ""
    pid: int = 0

    def to_json(self) -> bytes:
        r"""Return one JSON line without its newline.

        Control bytes of hostile names are escaped by JSON itself. A lone surrogate, which file names on Linux may
        carry in and UTF-8 cannot carry out, is written out as the text ``\udcff``.
        """
        try:
            return msgspec.json.encode(self)
        except UnicodeEncodeError:
            return msgspec.json.encode(_encodable(msgspec.to_builtins(self)))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(part) for part in value]
    return value


def alert_id(host_id: str, time_unix: float, process_key: str, subject: str, occurrence: int) -> str:
    """Return an identifier that the same event gets in every replay.

    `subject` is what fired (rule ids or the event key), `occurrence` counts equal events of one instant.
    """
    parts = (host_id, repr(time_unix), process_key, subject, str(occurrence))
    text = "\x1f".join(part.replace("\x1f", " ") for part in parts)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]

"""Alerts as they arrive, judged one by one, and the rows that the good ones become.

What an endpoint names a process, a file or a rule is stored as it is: it may hold terminal codes, markup or formulas,
and is only ever handed out as JSON. What could not be stored on every database is refused here, by name, so that one
bad alert never holds up the batch that it came in.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from eguard.detection.alert import Alert
from eguard.detection.confidence import Confidence
from eguard.detection.feature_contract import FEATURE_NAMES, contract_sha256
from eguard.events import EventClass
from eguard.wire.baseline import MAX_TIME_UNIX
from eguard.wire.process_key import is_process_key

SEVERITIES: Final = tuple(step.name.lower() for step in Confidence if step > Confidence.NONE)
SEVERITY_RANK: Final = {name: rank for rank, name in enumerate(SEVERITIES)}
EVENT_CLASSES: Final = frozenset({"uncounted", *(member.name.lower() for member in EventClass)})
#: Characters of an alert that searches look at.
MAX_SEARCH_CHARACTERS: Final = 65_536
_MAX_ID: Final = 128
_MAX_RULE_ID: Final = 255
_MAX_MODEL_VERSION: Final = 128
_MAX_PID: Final = 2**53
_MAX_TITLE: Final = 255
_MAX_FEATURES: Final = 256
_FIELDS: Final = frozenset(Alert.__struct_fields__)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")
_IDENTIFIER: Final = re.compile(rf"[^\x00-\x1f\x7f]{{1,{_MAX_ID}}}")

#: What `_unstorable` finds, in its order.
_FAULTS: Final = (
    ("invalid_alert_id", f"alert_id: 1 to {_MAX_ID} characters, none of them a control character"),
    ("invalid_time", f"observed_at_unix: not in 0..{MAX_TIME_UNIX:.0f}"),
    ("unknown_class", "event_class: no event class"),
    ("unknown_confidence", f"confidence: none of {', '.join(SEVERITIES)}"),
    ("invalid_process_key", "process_key: not the canonical text of a pair of names"),
    ("invalid_number", "score, p_value, logit: finite numbers only"),
    ("invalid_rule_id", f"rules: ids of 1 to {_MAX_RULE_ID} characters"),
    ("out_of_range", f"model_version: at most {_MAX_MODEL_VERSION} characters; pid: 0..{_MAX_PID}"),
    ("invalid_features", f"features: at most {_MAX_FEATURES} finite numbers"),
)


@dataclass(frozen=True, slots=True)
class ReadAlert:
    """An alert that can be stored, and the JSON object that it was read from."""

    alert: Alert
    body: dict[str, Any]

    @property
    def rule_ids(self) -> tuple[str, ...]:
        """Ids of the rules that matched."""
        return tuple(rule.rule_id for rule in self.alert.rules)


def read_alert(body: dict[str, Any]) -> ReadAlert | tuple[str, str]:
    """Return the alert, or the code and the sentence of why it is refused.

    Examples
    --------
    >>> read_alert({"alert_id": "a1", "colour": "red"})
    ('unknown_field', 'colour: no field of an alert')
    """
    unknown = sorted(body.keys() - _FIELDS)
    if unknown:
        return "unknown_field", f"{unknown[0][:80]}: no field of an alert"
    try:
        alert = msgspec.convert(body, Alert)
    except msgspec.ValidationError as error:
        return "invalid_alert", str(error)
    reason = _unstorable(alert)
    return reason or ReadAlert(alert, body)


def _unstorable(alert: Alert) -> tuple[str, str] | None:
    """Return the first of an alert's faults that some database would not store."""
    holds = (
        _IDENTIFIER.fullmatch(alert.alert_id) is not None,
        0.0 <= alert.observed_at_unix <= MAX_TIME_UNIX,
        alert.event_class in EVENT_CLASSES,
        alert.confidence in SEVERITY_RANK,
        is_process_key(alert.process_key),
        all(value is None or math.isfinite(value) for value in (alert.score, alert.p_value, alert.logit)),
        all(0 < len(rule.rule_id) <= _MAX_RULE_ID for rule in alert.rules),
        len(alert.model_version) <= _MAX_MODEL_VERSION and 0 <= alert.pid <= _MAX_PID,
        len(alert.features) <= _MAX_FEATURES and all(map(math.isfinite, alert.features)),
    )
    return None if all(holds) else _FAULTS[holds.index(False)]


def event_row(
    read: ReadAlert, agent_id: str, *, received_at: float, incident_id: str, suppressed_by: str | None
) -> dict[str, Any]:
    """Return the row of `endpoint_event` that an alert becomes."""
    alert = read.alert
    return {
        "event_id": alert.alert_id,
        "agent_id": agent_id,
        "incident_id": incident_id,
        "observed_at": alert.observed_at_unix,
        "received_at": received_at,
        "event_class": alert.event_class,
        "process_key": alert.process_key,
        "rule_id": what_fired(alert)[:_MAX_RULE_ID],
        "severity": alert.confidence,
        "score": alert.score,
        "p_value": alert.p_value,
        "model_version": alert.model_version or None,
        "features": feature_values(alert),
        "detail": _without_whole_row(read),
        "search_text": search_text(alert, agent_id),
        "suppressed_by": suppressed_by,
    }


def feature_values(alert: Alert) -> dict[str, float] | None:
    """Return an alert's features by name: all of them, or what explains its score where its contract is another one.

    Only whole rows of this release's contract can be learned from; the nightly run counts the others.
    """
    if _has_whole_row(alert):
        return dict(zip(FEATURE_NAMES, alert.features, strict=True))
    return {part.feature: part.value for part in alert.contributions} or None


def _has_whole_row(alert: Alert) -> bool:
    return len(alert.features) == len(FEATURE_NAMES) and alert.feature_contract == contract_sha256()


def _without_whole_row(read: ReadAlert) -> dict[str, Any]:
    """Return the alert as it came; a feature row that has a column of its own is not kept twice."""
    if not _has_whole_row(read.alert):
        return read.body
    return {name: value for name, value in read.body.items() if name != "features"}


def what_fired(alert: Alert) -> str:
    """Return the signal's name; for an alert of an agent that gives none the first rule's id, or what fired."""
    if alert.signal:
        return alert.signal
    return alert.rules[0].rule_id if alert.rules else "; ".join(alert.reasons) or "unknown"


def title_of(alert: Alert) -> str:
    """Return what an incident that begins with this alert is called."""
    subject = alert.rules[0].title or alert.rules[0].rule_id if alert.rules else "; ".join(alert.reasons)
    return f"{subject or 'alert'}: {alert.process_key}"[:_MAX_TITLE]


def search_text(alert: Alert, agent_id: str) -> str:
    """Return the words of an alert, lower-cased and without control characters."""
    parts = [agent_id, alert.host_id, alert.process_key, alert.event_class, alert.confidence, alert.target]
    parts += [alert.command_line, *alert.reasons, *alert.techniques, *alert.tactics, *alert.ancestors]
    for rule in alert.rules:
        parts += [rule.rule_id, rule.title, *(value for _, value in rule.matched_fields)]
    if alert.beacon is not None:
        parts.append(alert.beacon.destination)
    text = " ".join(dict.fromkeys(part for part in parts if part))
    return _CONTROL.sub(" ", text)[:MAX_SEARCH_CHARACTERS].lower()

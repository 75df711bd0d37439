"""From candidates to alerts: who alerts, how sure, and with which evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eguard.detection.alert import Alert, MatchedRule, WindowComparison, alert_id
from eguard.detection.candidates import Candidates
from eguard.detection.confidence import Confidence, layer_confidence, raise_by_classifier
from eguard.detection.explain import Explanation, explain_rows
from eguard.detection.features import FEATURE_NAMES, contract_sha256
from eguard.detection.gate import GateDecision
from eguard.detection.layers import DetectionContent
from eguard.detection.model import Model
from eguard.detection.window_batch import ClosedWindow
from eguard.detection.window_test import WindowLevel
from eguard.events import EventClass
from eguard.wire.process_key import encode_process_key

ALERT_ONLY = "alert_only"
RESPOND = "respond"


@dataclass(frozen=True, slots=True)
class Scores:
    """What the classifier says of the candidates; `decision` is None without a calibrated gate."""

    features: NDArray[np.float64]
    model: Model | None = None
    scores: NDArray[np.float64] | None = None
    decision: GateDecision | None = None


def confidence_of(candidates: Candidates, decision: GateDecision | None) -> NDArray[np.int8]:
    """Return each candidate's confidence; one that no layer fired on has none, whatever its score."""
    layers = layer_confidence(
        indicator=candidates.has_indicator,
        rule=candidates.has_rule,
        kill_chain=candidates.has_kill_chain,
        beacon=candidates.has_beacon,
        anomaly_high=candidates.level == WindowLevel.HIGH,
        anomaly_medium=candidates.level >= WindowLevel.MEDIUM,
    )
    if decision is not None:
        layers = raise_by_classifier(layers, decision.flagged)
    return np.where(candidates.is_fired, layers, Confidence.NONE).astype(np.int8)


class AlertBuilder:
    """Makes the alerts of one host and numbers equal ones of one instant.

    Parameters
    ----------
    host_id : str
        The endpoint.
    """

    def __init__(self, host_id: str) -> None:
        self._host_id = host_id
        self._instant = -math.inf
        self._occurrences: dict[tuple[str, str], int] = {}

    def build(
        self,
        candidates: Candidates,
        scored: Scores,
        confidence: NDArray[np.int8],
        *,
        content: DetectionContent,
        is_learning: NDArray[np.bool_],
        baseline_version: int,
    ) -> list[Alert]:
        """Return the alerts among the candidates, in their order.

        Parameters
        ----------
        candidates : Candidates
            Candidates of a batch.
        scored : Scores
            Their feature rows and scores.
        confidence : ndarray of shape (n,)
            Of each candidate (`confidence_of`); one without any gives no alert.
        content : DetectionContent
            What they were detected with.
        is_learning : ndarray of bool, shape (n,)
            Whether the host's baseline was still being learned at each of them.
        baseline_version : int
            Fleet generation whose seeds the baseline holds.
        """
        rows = np.flatnonzero(confidence > Confidence.NONE)
        if not len(rows):
            return []
        explanations: list[Explanation | None] = [None] * len(rows)
        if scored.model is not None:
            explanations = list(explain_rows(scored.model, scored.features[rows], FEATURE_NAMES))
        batch = candidates.batch
        has_kill_chain = candidates.has_kill_chain
        alerts = []
        for row, explained in zip(rows.tolist(), explanations, strict=True):
            matched = candidates.rules[row]
            process_key = encode_process_key(batch.comm[row], batch.parent_comm[row])
            time_unix = float(batch.time_unix[row])
            event_class = int(batch.event_class[row])
            alerts.append(
                Alert(
                    alert_id=self._identify(time_unix, process_key, candidates.keys[row]),
                    host_id=self._host_id,
                    observed_at_unix=time_unix,
                    event_class=EventClass(event_class).name.lower() if event_class >= 0 else "uncounted",
                    process_key=process_key,
                    confidence=Confidence(int(confidence[row])).name.lower(),
                    response=ALERT_ONLY if is_learning[row] else RESPOND,
                    reasons=_reasons(candidates, row, content, scored.decision, has_kill_chain=has_kill_chain[row]),
                    baseline_version=baseline_version,
                    contributions=explained.largest if explained else (),
                    features=tuple(scored.features[row].tolist()),
                    feature_contract=contract_sha256(),
                    signal=candidates.keys[row],
                    logit=explained.logit if explained else None,
                    base_logit=explained.base_logit if explained else None,
                    ancestors=candidates.tree.ancestors[row],
                    rules=_matched_rules(candidates, row, content),
                    techniques=content.techniques(matched),
                    tactics=content.tactics(matched),
                    window=_comparison(candidates.windows[row]),
                    window_id=candidates.window_ids[row],
                    beacon=candidates.beacons[row],
                    command_line=batch.command_line[row],
                    target=batch.target[row] or batch.destination_address[row],
                    pid=int(batch.pid[row]),
                    **_scores_at(scored, row),
                )
            )
        return alerts

    def _identify(self, time_unix: float, process_key: str, subject: str) -> str:
        if time_unix != self._instant:
            self._instant = time_unix
            self._occurrences.clear()
        occurrence = self._occurrences.get((process_key, subject), 0)
        self._occurrences[process_key, subject] = occurrence + 1
        return alert_id(self._host_id, time_unix, process_key, subject, occurrence)


def _scores_at(scored: Scores, row: int) -> dict[str, Any]:
    if scored.model is None or scored.scores is None:
        return {}
    values: dict[str, Any] = {
        "score": float(scored.scores[row]),
        "model_version": scored.model.version,
    }
    if scored.decision is not None:
        threshold = float(scored.decision.threshold[row])
        values["p_value"] = float(scored.decision.p_values[row])
        values["threshold"] = threshold if math.isfinite(threshold) else None
    return values


def _reasons(
    candidates: Candidates,
    row: int,
    content: DetectionContent,
    decision: GateDecision | None,
    *,
    has_kill_chain: np.bool_,
) -> tuple[str, ...]:
    reasons = []
    if candidates.has_indicator[row]:
        hits = content.indicators.hits(candidates.batch, row)
        reasons += [f"indicator {hit.value} ({hit.source})" for hit in hits]
    if candidates.rules[row]:
        reasons.append("rule")
    if has_kill_chain:
        reasons.append(f"kill chain: {', '.join(candidates.tactics[row])}")
    found = candidates.beacons[row]
    if found is not None:
        reasons.append(f"beacon to {found.destination}{'' if found.is_confirmed else ' (advisory)'}")
    if candidates.level[row] == WindowLevel.HIGH:
        reasons.append("window far from its baseline")
    elif candidates.level[row] == WindowLevel.MEDIUM:
        reasons.append("window away from its baseline")
    if candidates.alarm_count[row]:
        reasons.append("drift or rate alarm in the last hour")
    if candidates.signature_count[row]:
        reasons.append("suspicious string in the command line")
    if decision is not None and decision.flagged[row]:
        reasons.append("classifier above its threshold")
    return tuple(reasons)


def _matched_rules(candidates: Candidates, row: int, content: DetectionContent) -> tuple[MatchedRule, ...]:
    if not candidates.rules[row]:
        return ()
    event = candidates.batch.row(row)
    matched = []
    for index in candidates.rules[row]:
        rule = content.rules.rules[index]
        evidence = tuple((field, value) for field, value, _ in content.rules.explain(index, event))
        matched.append(MatchedRule(rule.id, rule.title, rule.level, rule.author, rule.techniques, evidence))
    return tuple(matched)


def _comparison(window: ClosedWindow | None) -> WindowComparison | None:
    if window is None:
        return None
    total = sum(window.counts)
    threshold = window.score.threshold_medium_bits
    return WindowComparison(
        window=tuple(count / total for count in window.counts),
        baseline=window.score.expected,
        kl_bits=window.score.kl_bits,
        threshold_bits=threshold if math.isfinite(threshold) else None,
    )

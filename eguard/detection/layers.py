"""What an engine detects with, and the cheap layers run over every event of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.fleet_context import FleetContext
from eguard.detection.indicators import IndicatorSet
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rule_header import Rule
from eguard.detection.rules import RuleSet
from eguard.events import EventBatch, EventClass

#: Level of rules that describe and do not accuse.
INFORMATIONAL = "informational"

_NO_RULES: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerHits:
    """What the cheap layers found in a batch of n events.

    Columns have shape (n,). `rules` maps the position of an event to the indices of the rules that matched it. Rules of
    the level ``informational``, which Sigma keeps for enrichment, stand apart in `enrichment` and make no alert.
    `is_alert` marks alerts of other engines, which are always looked at.
    """

    has_indicator: NDArray[np.bool_]
    signature_count: NDArray[np.int64]
    is_alert: NDArray[np.bool_]
    has_rule: NDArray[np.bool_]
    rules: dict[int, tuple[int, ...]]
    enrichment: dict[int, tuple[int, ...]]

    def rules_at(self, index: int) -> tuple[int, ...]:
        """Return the indices of the rules that matched event `index`."""
        return self.rules.get(index, _NO_RULES)


@dataclass(frozen=True, slots=True)
class DetectionContent:
    """What a bundle brings to an engine beside the model; replaced as a whole.

    Parameters
    ----------
    indicators : IndicatorSet
        Layer 1.
    rules : RuleSet
        Layer 2.
    prefilter : CommandLinePrefilter
        Suspicious strings of command lines.
    fleet : FleetContext
        What the fleet knows of ports, parents and rules.
    beacon : BeaconCalibration, optional
        Threshold of the beacon score, for engines that run without the bundle's classifier.
    """

    indicators: IndicatorSet = field(default_factory=lambda: IndicatorSet(()))
    rules: RuleSet = field(default_factory=lambda: RuleSet(()))
    prefilter: CommandLinePrefilter = field(default_factory=lambda: CommandLinePrefilter({}))
    fleet: FleetContext = field(default_factory=FleetContext)
    beacon: BeaconCalibration | None = None

    def evaluate(self, batch: EventBatch) -> LayerHits:
        """Run indicators, rules and prefilter over all events of a batch."""
        rules: dict[int, tuple[int, ...]] = {}
        enrichment: dict[int, tuple[int, ...]] = {}
        for index, matched in enumerate(self.rules.match(batch) if len(self.rules) else ()):
            if matched:
                alerting = tuple(number for number in matched if self.rules.rules[number].level != INFORMATIONAL)
                if alerting:
                    rules[index] = alerting
                if len(alerting) < len(matched):
                    enrichment[index] = tuple(number for number in matched if number not in alerting)
        has_rule = np.zeros(len(batch), dtype=np.bool_)
        has_rule[list(rules)] = True
        return LayerHits(
            has_indicator=self.indicators.match(batch),
            signature_count=self.prefilter.counts(batch.command_line),
            is_alert=batch.event_class == EventClass.ALERT,
            has_rule=has_rule,
            rules=rules,
            enrichment=enrichment,
        )

    def leading_rule(self, matched: tuple[int, ...]) -> Rule | None:
        """Return the most severe of the rules at `matched`, the first of equals; None if there is none."""
        rules = [self.rules.rules[index] for index in matched]
        return max(rules, key=lambda rule: rule.severity_fraction, default=None)

    def tactics(self, matched: tuple[int, ...]) -> tuple[str, ...]:
        """Return the ATT&CK tactics of the rules at `matched`, sorted."""
        return tuple(sorted({tactic for index in matched for tactic in self.rules.rules[index].tactics}))

    def techniques(self, matched: tuple[int, ...]) -> tuple[str, ...]:
        """Return the ATT&CK techniques of the rules at `matched`, sorted."""
        return tuple(sorted({technique for index in matched for technique in self.rules.rules[index].techniques}))

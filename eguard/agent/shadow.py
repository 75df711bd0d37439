"""A candidate's model beside the one in use: the same events scored by both, and how often they differ.

Nothing of it reaches an alert. What is compared is the decision that an analyst would meet: whether an event would have
been given a higher confidence by the classifier. The features are taken with the candidate's own tables and the fleet's
tables of the bundle in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eguard.agent.bundle_status import NewBundle
from eguard.detection.engine import EngineOutput, Loaded
from eguard.detection.features import extract_features


@dataclass(slots=True)
class ShadowTally:
    """What both models said since the candidate was loaded, in events that the engine looked at closely.

    `only_shadow` and `only_active` are the events that one of them flagged and the other did not; `difference_sum` adds
    up the distances between the two scores.
    """

    scored: int = 0
    active_flagged: int = 0
    shadow_flagged: int = 0
    only_shadow: int = 0
    only_active: int = 0
    difference_sum: float = 0.0


class ShadowScorer:
    """Scores what the engine scored with a candidate's model and thresholds.

    Parameters
    ----------
    bundle : NewBundle
        The candidate, tried out and loaded. Of it the model and the thresholds are kept.
    """

    def __init__(self, bundle: NewBundle) -> None:
        self.digest = bundle.digest
        self.model_version = bundle.manifest.model_version
        self.tally = ShadowTally()
        self._model, self._gate = bundle.content.model, bundle.content.gate

    def observe(self, output: EngineOutput, loaded: Loaded) -> None:
        """Score a batch's candidate events; `loaded` is what they were scored with."""
        if output.scores is None or loaded.gate is None or not len(output.scores):
            return
        event_class = output.inputs.event_class
        scores = self._model.score(extract_features(output.inputs, self._model.tables))
        shadow = self._gate.judge(scores, event_class).flagged
        active = loaded.gate.judge(output.scores, event_class).flagged
        # An event of the random sample alone never alerts, whatever its score.
        self._count(shadow & output.candidates.is_fired, active & output.candidates.is_fired)
        self.tally.scored += len(scores)
        self.tally.difference_sum += float(np.abs(scores - output.scores).sum())

    def describe(self) -> dict[str, Any]:
        """Return the candidate and the tally as plain values."""
        tally = self.tally
        return {
            "digest": self.digest,
            "scored": tally.scored,
            "active_flagged": tally.active_flagged,
            "shadow_flagged": tally.shadow_flagged,
            "only_shadow": tally.only_shadow,
            "only_active": tally.only_active,
            "difference_sum": tally.difference_sum,
        }

    def _count(self, shadow: NDArray[np.bool_], active: NDArray[np.bool_]) -> None:
        tally = self.tally
        tally.active_flagged += int(active.sum())
        tally.shadow_flagged += int(shadow.sum())
        tally.only_shadow += int((shadow & ~active).sum())
        tally.only_active += int((active & ~shadow).sum())

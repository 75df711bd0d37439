"""The holdout, scored once by the model JSON as an agent reads it, beside baselines and the previous model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.feature_contract import FEATURE_NAMES, contract_sha256
from eguard.detection.model import Model, load_model
from eguard.errors import ModelError
from eguard.events import EventClass
from eguard.mlops.adversarial import adversarial_shrinkages
from eguard.mlops.attack_steps import step_figures
from eguard.mlops.baselines import RuleLogistic, severity_scores
from eguard.mlops.dataset import Dataset
from eguard.mlops.intervals import Estimate, HostSample, bootstrap_hosts, difference, report_metrics
from eguard.mlops.metrics import average_precision, mcnemar
from eguard.mlops.model_selection import FittingOptions
from eguard.mlops.splits import Holdout, Mask

Floats = NDArray[np.float64]
_COOCCURRENCE: Final = FEATURE_NAMES.index("fleet_cooccurrence")
_DRIFT_ALARMS: Final = FEATURE_NAMES.index("behavioral_alarm_count")


def filled_features(model: Model, data: Dataset, rows: Mask) -> Floats:
    """Return the feature rows of a mask with columns 7 and 41 from the model's own tables."""
    rules = [data.names.rules[rule] for rule in data.rules[rows].tolist()]
    return model.tables.apply(data.features[rows], data.event_class[rows], rules)


def agent_view(features: Floats, event_class: NDArray[np.integer]) -> Floats:
    """Return feature rows as an agent sees them, which knows its own host alone.

    Feature 42, other hosts with the same rule, is 0, and so is feature 23 of other engines' alerts: the drift of a
    network's rules is known where the alerts of all its hosts meet.

    Parameters
    ----------
    features : ndarray of float64, shape (n, 43)
    event_class : ndarray of int, shape (n,)
        Class of each signal.

    Returns
    -------
    ndarray of float64, shape (n, 43)
        A copy.
    """
    local = features.copy()
    local[:, _COOCCURRENCE] = 0.0
    local[event_class == int(EventClass.ALERT), _DRIFT_ALARMS] = 0.0
    return local


@dataclass(frozen=True, slots=True)
class HoldoutEvaluation:
    """Figures of the held-out rows.

    Parameters
    ----------
    data : Dataset
        Adjudicated rows.
    split : Holdout
        Which of them were held out, and which the baselines may be fitted to.
    model : Model
        The shipped classifier.
    seed, n_replicates : int
        Of the bootstrap over hosts. Every sample draws from the same seed, so that differences are paired.
    """

    data: Dataset
    split: Holdout
    model: Model
    seed: int
    n_replicates: int

    def report(self, previous: Any, fitting: FittingOptions) -> dict[str, Any]:
        """Return every figure.

        Parameters
        ----------
        previous : dict or None
            Model JSON of the run before, if there is one.
        fitting : FittingOptions
            Training weights of the rule baseline.
        """
        rows = self.split.held_out & ~self.data.is_flood
        features = filled_features(self.model, self.data, rows)
        local = agent_view(features, self.data.event_class[rows])
        scores = self.model.score(features)
        sample = self._sample(rows, scores)
        signals = HostSample(sample.labels, scores, np.ones(len(scores)), sample.hosts)
        every = self.split.held_out
        scores_of_every = self.model.score(filled_features(self.model, self.data, every))
        return {
            **self.split.to_json(),
            "without_floods": self._metrics(sample),
            "with_floods": self._metrics(self._sample(every, scores_of_every)),
            "without_floods_by_signal": self._metrics(signals),
            "without_floods_on_agent": self._metrics(self._sample(rows, self.model.score(local))),
            "by_attack_step": step_figures(
                self.data, every, self._spread(every, scores_of_every), self.model.threshold
            ),
            "baselines": self._baselines(rows, sample, fitting),
            "previous_model": self._against(previous, rows, sample),
            "adversarial": adversarial_shrinkages(self.model, features, sample, self._ordinary_row()),
        }

    def _sample(self, rows: Mask, scores: Floats) -> HostSample:
        return HostSample(self.data.labels[rows], scores, self.data.weights[rows], self.data.hosts[rows])

    def _spread(self, rows: Mask, scores: Floats) -> Floats:
        """Return scores by row of the dataset, NaN elsewhere."""
        spread = np.full(len(self.data), np.nan)
        spread[rows] = scores
        return spread

    def _metrics(self, sample: HostSample) -> dict[str, Any]:
        estimates = report_metrics(
            sample,
            threshold=self.model.threshold,
            rng=np.random.default_rng(self.seed),
            n_replicates=self.n_replicates,
        )
        return {name: estimate.to_json() for name, estimate in estimates.items()}

    def _average_precision(self, sample: HostSample) -> Estimate:
        estimates = bootstrap_hosts(
            sample,
            lambda counts: {"average_precision": average_precision(counts)},
            np.random.default_rng(self.seed),
            self.n_replicates,
        )
        return estimates["average_precision"]

    def _ordinary_row(self) -> Floats:
        """Return the median of each feature over training rows that are no attack."""
        rows = self.split.training & (self.data.labels == 0)
        ordinary: Floats = np.median(filled_features(self.model, self.data, rows), axis=0)
        return ordinary

    def _baselines(self, rows: Mask, sample: HostSample, fitting: FittingOptions) -> dict[str, Any]:
        fitted = RuleLogistic(self.data, self.split.training, fitting)
        ours = self._average_precision(sample)
        report = {}
        for name, scores in (
            ("severity", severity_scores(self.data, rows)),
            ("rule_logistic", fitted.scores(self.data, rows)),
        ):
            theirs = self._average_precision(self._sample(rows, scores))
            report[name] = {
                "average_precision": theirs.to_json(),
                "model_minus_baseline": difference(ours, theirs).to_json(),
            }
        return report

    def _against(self, previous: Any, rows: Mask, sample: HostSample) -> dict[str, Any] | None:
        """Compare with the previous model at both operating points; None without one that reads these rows."""
        if previous is None:
            return None
        try:
            older = load_model(previous, expected_contract_sha256=contract_sha256())
        except ModelError as error:
            return {"is_comparable": False, "reason": error.message, "drop": {"value": None, "interval": None}}
        scores = older.score(filled_features(older, self.data, rows))
        theirs = self._average_precision(self._sample(rows, scores))
        is_attack = sample.labels == 1
        return {
            "is_comparable": True,
            "model_version": older.version,
            "model_digest": older.digest,
            "average_precision": theirs.to_json(),
            "drop": difference(theirs, self._average_precision(sample)).to_json(),
            "mcnemar": mcnemar(
                (sample.scores >= self.model.threshold) == is_attack, (scores >= older.threshold) == is_attack
            ),
        }

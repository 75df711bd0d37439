"""Figures on unseen networks: each left out in turn, beside baselines, without feature groups, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eguard.mlops.ablation import without_each_group
from eguard.mlops.attack_steps import step_figures
from eguard.mlops.classifiers import Specification
from eguard.mlops.curves import precision_recall_points, reliability_points, roc_points
from eguard.mlops.dataset import Dataset
from eguard.mlops.fitted_features import PriorOrder
from eguard.mlops.intervals import Estimate, difference, mean_estimate, report_metrics
from eguard.mlops.model_selection import FittingOptions
from eguard.mlops.unseen_networks import (
    UnseenScores,
    average_precisions,
    baseline_scores,
    leave_networks_out,
    networks_to_leave_out,
    sample_of,
)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """What is fitted to the other networks, and how figures are drawn.

    Parameters
    ----------
    specification : Specification
        Classifier with its hyperparameters.
    fitting : FittingOptions
        How it is fitted.
    target_precision : float
        Of the operating points.
    sources : sequence of str
        Sources whose networks are left out.
    min_attacks : int
        Attacks beside floods that such a network needs.
    seed, n_replicates : int
        Of the bootstrap over hosts.
    """

    specification: Specification
    fitting: FittingOptions
    target_precision: float
    sources: Sequence[str]
    min_attacks: int
    seed: int
    n_replicates: int


def evaluate_networks(
    data: Dataset, ablation_data: Dataset, options: NetworkOptions, progress: Progress | None = None
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Return the report of unseen networks and the points of its plots.

    Parameters
    ----------
    data : Dataset
        Adjudicated rows of all networks, those of the holdout among them: here every network is left out in turn.
    ablation_data : Dataset
        Fewer rows of the same corpus, for the many refits without groups of features.
    options : NetworkOptions
        What is fitted, and how.
    """
    evaluation = NetworkEvaluation(data, options, progress)
    if not evaluation.units:
        empty: dict[str, Any] = {"value": None, "interval": None}
        mean = {"without_floods": empty, "with_floods": empty, "chance": None}
        return {"headline": {}, "mean_average_precision": mean, "networks": {}}, {
            "pr": [],
            "roc": [],
            "reliability": [],
        }
    report = evaluation.report()
    report["without_feature_groups"] = without_each_group(
        ablation_data,
        networks_to_leave_out(ablation_data, options.sources, 1),
        options.specification,
        options.fitting,
        seed=options.seed,
        n_replicates=options.n_replicates,
        progress=progress,
    )
    return report, evaluation.plots()


class NetworkEvaluation:
    """Scores every unseen network once and answers from these scores.

    Parameters
    ----------
    data : Dataset
        Adjudicated rows.
    options : NetworkOptions
        What is fitted, and how figures are drawn.
    progress : callable, optional
        Told of every network.
    """

    def __init__(self, data: Dataset, options: NetworkOptions, progress: Progress | None = None) -> None:
        self.data = data
        self.options = options
        self.units = networks_to_leave_out(data, options.sources, options.min_attacks)
        self.scores = self._leave_out(options.fitting, progress)
        self._other_order: PriorOrder = (
            "calendar" if options.fitting.prior_order == "separate_sites" else "separate_sites"
        )
        self.other_scores = self._leave_out(replace(options.fitting, prior_order=self._other_order), progress)

    def _leave_out(self, fitting: FittingOptions, progress: Progress | None) -> UnseenScores:
        return leave_networks_out(
            self.data,
            self.units,
            self.options.specification,
            fitting,
            target_precision=self.options.target_precision,
            progress=progress,
        )

    def report(self) -> dict[str, Any]:
        """Return headline, means, baselines and each network's figures."""
        raw = self.scores.raw_logit
        without, by_signal = self._precisions(raw), self._precisions(raw, by_signal=True)
        with_floods = self._precisions(raw, with_floods=True)
        other_order = self._precisions(self.other_scores.raw_logit)
        mean = mean_estimate(without)
        return {
            "headline": self._headline(without, with_floods),
            "mean_average_precision": {
                "without_floods": mean.to_json(),
                "with_floods": mean_estimate(with_floods).to_json(),
                "without_floods_by_signal": mean_estimate(by_signal).to_json(),
                "chance": float(np.mean([self._chance(unit) for unit in self.units])),
            },
            "prior_order": {
                "used": self.options.fitting.prior_order,
                "other": self._other_order,
                "other_average_precision": mean_estimate(other_order).to_json(),
                "other_by_network": self._named([estimate.to_json() for estimate in other_order]),
            },
            "baselines": self._baselines(without),
            "networks": self._named([self._network(unit) for unit in self.units]),
            "by_attack_step": self._steps(),
        }

    def plots(self) -> dict[str, list[dict[str, Any]]]:
        """Return the points of the curves of every network, scan floods left out."""
        points: dict[str, list[dict[str, Any]]] = {"pr": [], "roc": [], "reliability": []}
        for unit in self.units:
            sample = sample_of(self.data, self.scores.probability, self._rows(unit))
            name = self.data.names.units[unit]
            points["pr"] += precision_recall_points(sample, name)
            points["roc"] += roc_points(sample, name)
            points["reliability"] += reliability_points(sample, name)
        return points

    def _named(self, values: Sequence[Any]) -> dict[str, Any]:
        return {self.data.names.units[unit]: value for unit, value in zip(self.units, values, strict=True)}

    def _rows(self, unit: int, *, with_floods: bool = False) -> NDArray[np.bool_]:
        rows: NDArray[np.bool_] = (self.data.units == unit) & (self.data.labels >= 0)
        return rows if with_floods else rows & ~self.data.is_flood

    def _precisions(
        self, scores: NDArray[np.float64], *, by_signal: bool = False, with_floods: bool = False
    ) -> list[Estimate]:
        return average_precisions(
            self.data,
            scores,
            self.units,
            seed=self.options.seed,
            n_replicates=self.options.n_replicates,
            by_signal=by_signal,
            with_floods=with_floods,
        )

    def _chance(self, unit: int) -> float:
        """Return the share of attacks, which is average precision at chance."""
        rows = self._rows(unit)
        weights = self.data.weights[rows]
        return float(weights @ (self.data.labels[rows] == 1) / weights.sum())

    def _headline(self, without: list[Estimate], with_floods: list[Estimate]) -> dict[str, Any]:
        rows = {**self._named(list(zip(without, with_floods, strict=True)))}
        rows["mean"] = (mean_estimate(without), mean_estimate(with_floods))
        return {
            name: {
                "without_floods": bare.value,
                "without_floods_interval": list(bare.interval() or (bare.value, bare.value)),
                "with_floods": flooded.value,
                "with_floods_interval": list(flooded.interval() or (flooded.value, flooded.value)),
            }
            for name, (bare, flooded) in rows.items()
        }

    def _baselines(self, ours: list[Estimate]) -> dict[str, Any]:
        report = {}
        for name, scores in baseline_scores(self.data, self.units, self.options.fitting).items():
            theirs = self._precisions(scores)
            report[name] = {
                "mean_average_precision": mean_estimate(theirs).to_json(),
                "model_minus_baseline": difference(mean_estimate(ours), mean_estimate(theirs)).to_json(),
                "by_network": self._named([estimate.to_json() for estimate in theirs]),
            }
        return report

    def _network(self, unit: int) -> dict[str, Any]:
        """Return all metrics of one network, with and without floods, by alert and by signal."""
        probability, threshold = self.scores.probability, self.scores.thresholds[unit]
        report: dict[str, Any] = {
            "operating_threshold": threshold,
            "hosts": len(np.unique(self.data.hosts[self._rows(unit)])),
        }
        for name, rows, by_signal in (
            ("without_floods", self._rows(unit), False),
            ("with_floods", self._rows(unit, with_floods=True), False),
            ("without_floods_by_signal", self._rows(unit), True),
        ):
            estimates = report_metrics(
                sample_of(self.data, probability, rows, by_signal=by_signal),
                threshold=threshold,
                rng=np.random.default_rng([self.options.seed, unit]),
                n_replicates=self.options.n_replicates,
            )
            report[name] = {metric: estimate.to_json() for metric, estimate in estimates.items()}
        return report

    def _steps(self) -> dict[str, Any]:
        """Return each step's figures by network."""
        steps: dict[str, dict[str, Any]] = {}
        for unit in self.units:
            figures = step_figures(
                self.data, self._rows(unit, with_floods=True), self.scores.probability, self.scores.thresholds[unit]
            )
            for step, values in figures.items():
                steps.setdefault(step, {})[self.data.names.units[unit]] = values
        return steps

"""What came of training: the fitted model with everything that led to it, and how it is reported."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import sklearn

from eguard.detection.feature_contract import CONTRACT_VERSION, contract_sha256
from eguard.mlops.dataset import Dataset
from eguard.mlops.export_model import ModelHeader
from eguard.mlops.intervals import Estimate, HostSample, mean_estimate, report_metrics
from eguard.mlops.model_selection import CrossValidation, FittedModel, OperatingPoint, probability_of
from eguard.mlops.splits import Fold, Holdout


@dataclass(frozen=True, slots=True)
class Training:
    """One run of training.

    Parameters
    ----------
    version : str
        Version of the model.
    data : Dataset
        Adjudicated rows, the holdout among them.
    holdout : Holdout
        What was held out.
    folds : sequence of Fold
        Cross-validation of the training rows.
    results : sequence of CrossValidation
        Every candidate's.
    chosen : CrossValidation
        The one that ships.
    platt : (float, float)
        Slope and intercept of the calibration.
    operating_point : OperatingPoint
        Where the classifier says attack.
    model : FittedModel
        The chosen specification, fitted to all training rows.
    """

    version: str
    data: Dataset
    holdout: Holdout
    folds: Sequence[Fold]
    results: Sequence[CrossValidation]
    chosen: CrossValidation
    platt: tuple[float, float]
    operating_point: OperatingPoint
    model: FittedModel

    def document(self) -> dict[str, Any]:
        """Return the model JSON."""
        header = ModelHeader(
            version=self.version,
            contract_sha256=contract_sha256(),
            threshold=self.operating_point.threshold,
            tables=self.model.features.tables(),
            platt_slope=self.platt[0],
            platt_intercept=self.platt[1],
        )
        return self.model.classifier.to_json(header)


def training_report(training: Training, rng: np.random.Generator, n_replicates: int) -> dict[str, Any]:
    """Return what `reports/train.json` says: the split, every candidate, the choice and its out-of-fold figures."""
    specification = training.chosen.specification
    return {
        "model_version": training.version,
        "kind": specification.kind,
        "specification": specification.to_json(),
        "rows": len(training.data),
        "holdout": training.holdout.to_json(),
        "cross_validation": {
            "metric": "average precision without scan floods, every row weighted by the signals it stands for",
            "folds": [_describe(training.data, fold) for fold in training.folds],
            "candidates": [_candidate(result, training.chosen) for result in training.results],
        },
        "calibration": {"method": "platt", "slope": training.platt[0], "intercept": training.platt[1]},
        "operating_point": asdict(training.operating_point),
        "out_of_fold": _out_of_fold(training, rng, n_replicates),
    }


def model_facts(training: Training) -> dict[str, Any]:
    """Return the part of the model's metadata that training knows; machine facts come beside it."""
    held_out_hosts = training.data.hosts[training.holdout.held_out]
    return {
        "model_version": training.version,
        "kind": training.chosen.specification.kind,
        "specification": training.chosen.specification.to_json(),
        "feature_contract_version": CONTRACT_VERSION,
        "feature_contract_sha256": contract_sha256(),
        "effective_cv_folds": len(training.folds),
        "effective_holdout_fraction": training.holdout.fraction,
        "training_rows": int(training.holdout.training.sum()),
        "holdout": {
            "hosts": sorted(training.data.names.hosts[host] for host in np.unique(held_out_hosts)),
            "start_unix_by_source": training.holdout.start_unix,
            "units": list(training.holdout.units),
        },
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit_learn": sklearn.__version__,
        "processor": platform.machine(),
    }


def _out_of_fold(training: Training, rng: np.random.Generator, n_replicates: int) -> dict[str, Any]:
    """Return metrics of the chosen candidate on rows that its models had not seen, by unit and on average."""
    data, logits = training.data, training.chosen.raw_logit
    scored = np.isfinite(logits) & ~data.is_flood
    by_unit: dict[str, dict[str, Estimate]] = {}
    for unit in np.unique(data.units[scored]):
        rows = scored & (data.units == unit)
        sample = HostSample(
            data.labels[rows], probability_of(logits[rows], training.platt), data.weights[rows], data.hosts[rows]
        )
        by_unit[data.names.units[unit]] = report_metrics(
            sample, threshold=training.operating_point.threshold, rng=rng, n_replicates=n_replicates
        )
    precisions = [metrics["average_precision"] for metrics in by_unit.values()]
    return {
        "mean_average_precision": mean_estimate([one for one in precisions if np.isfinite(one.value)]).to_json(),
        "by_unit": {
            name: {metric: estimate.to_json() for metric, estimate in metrics.items()}
            for name, metrics in by_unit.items()
        },
    }


def _describe(data: Dataset, fold: Fold) -> dict[str, Any]:
    rows = fold.validation
    return {
        "name": fold.name,
        "rows": int(rows.sum()),
        "hosts": len(np.unique(data.hosts[rows])),
        "attacks_without_floods": int((rows & (data.labels == 1) & ~data.is_flood).sum()),
        "training_rows": int(fold.training.sum()),
    }


def _candidate(result: CrossValidation, chosen: CrossValidation) -> dict[str, Any]:
    scores = result.fold_average_precision
    answered = np.isfinite(scores)
    mean, error = _mean_and_error(scores[answered])
    gap, gap_error = _mean_and_error((chosen.fold_average_precision - scores)[answered])
    return {
        "name": result.specification.name,
        "specification": result.specification.to_json(),
        "average_precision": [float(score) if np.isfinite(score) else None for score in scores],
        "mean": mean,
        "standard_error": error,
        "chosen_minus_this": gap,
        "chosen_minus_this_error": gap_error,
        "is_chosen": result is chosen,
    }


def _mean_and_error(values: np.typing.NDArray[np.float64]) -> tuple[float | None, float | None]:
    if not values.size:
        return None, None
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else None
    return float(values.mean()), error

"""What carries the figure: unseen networks again, fitted without each group of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.feature_contract import FEATURES
from eguard.detection.fitted_tables import RULE_PRECISION_INDEX
from eguard.mlops.classifiers import Specification
from eguard.mlops.dataset import Dataset
from eguard.mlops.intervals import Estimate, difference, mean_estimate
from eguard.mlops.model_selection import FittingOptions
from eguard.mlops.unseen_networks import average_precisions, left_out_logits

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]

_INDEX: Final = {feature.name: feature.index for feature in FEATURES}
_COOCCURRENCE: Final = _INDEX["fleet_cooccurrence"]


def feature_groups() -> dict[str, tuple[int, ...]]:
    """Return the features that are left out together: the contract's groups, and the two strongest alone.

    Examples
    --------
    >>> groups = feature_groups()
    >>> groups["rule_precision_prior"], groups["beacon"]
    ((41,), (32, 33))
    """
    groups: dict[str, tuple[int, ...]] = {}
    for feature in FEATURES:
        groups[feature.group] = (*groups.get(feature.group, ()), feature.index)
    groups["rule_precision_prior"] = (RULE_PRECISION_INDEX,)
    groups["fleet_cooccurrence"] = (_COOCCURRENCE,)
    return groups


def without_each_group(
    data: Dataset,
    units: Sequence[int],
    specification: Specification,
    options: FittingOptions,
    *,
    seed: int,
    n_replicates: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Refit without each group of features and report average precision on unseen networks, and what was lost.

    A group of which no column varies on these networks has nothing to lose there; it is listed as constant.
    """
    groups = feature_groups()
    varies = np.ptp(data.features[np.isin(data.units, units)], axis=0) > 0.0
    fitted = [index for index, feature in enumerate(FEATURES) if feature.source == "model"]
    varies[fitted] = True

    def estimate(without: tuple[int, ...]) -> Estimate:
        removed = replace(options, without=without)
        scores = left_out_logits(data, units, specification, removed)
        return mean_estimate(average_precisions(data, scores, units, seed=seed, n_replicates=n_replicates))

    everything = estimate(())
    report: dict[str, Any] = {"rows": len(data), "all_features": everything.to_json(), "without": {}}
    for done, (name, indices) in enumerate(sorted(groups.items()), 1):
        entry: dict[str, Any] = {"features": [FEATURES[index].name for index in indices]}
        if varies[list(indices)].any():
            rest = estimate(indices)
            entry |= {"average_precision": rest.to_json(), "loss": difference(everything, rest).to_json()}
        else:
            entry["is_constant"] = True
        report["without"][name] = entry
        if progress is not None:
            progress("without each group", done, len(groups))
    return report

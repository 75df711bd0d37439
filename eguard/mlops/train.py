"""Stage `train`: select, fit and calibrate the layer-5 classifier.

Logistic regressions over a grid of penalties and small boosted trees are compared by cross-validation in which no
host and, with three sites or more, no network is shared between fitting and scoring. The better kind ships, the simpler
on a tie. The latest networks are held out and not looked at here; `offline_eval` scores them once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.errors import ConfigError
from eguard.mlops.classifiers import Boosting, Logistic, Specification
from eguard.mlops.dataset import Dataset, load_dataset
from eguard.mlops.fitted_features import PriorOrder
from eguard.mlops.model_selection import (
    CrossValidation,
    FittingOptions,
    calibration_rows,
    cross_validate,
    fit_model,
    fit_platt,
    is_clearly_better,
    operating_point,
    probability_of,
    simplest_within_one_error,
)
from eguard.mlops.resources import ResourceProfile, detect_machine, resolve_profile
from eguard.mlops.splits import plan_folds, plan_holdout
from eguard.mlops.training import Training, model_facts, training_report
from eguard.mlops.workspace import Workspace, write_artefact, write_report
from eguard.settings import ResourceProfileName

Progress = Callable[[str, int, int], None]
#: Counts of things that fired, and how often a rule was right: more of them is never less suspicious.
RISING_FEATURES: Final = (
    "z1_ioc_hit",
    "z2_temporal_count",
    "z3_anomaly_high",
    "z3_anomaly_med",
    "z4_killchain_count",
    "yara_hit_count",
    "string_sig_count",
    "behavioral_alarm_count",
    "rule_precision_prior",
)


class TrainParams(BaseModel):
    """How the classifier is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resource_profile: ResourceProfileName = Field(
        default="modest", description="Size of training: tiny, modest, balanced, high, or auto for this machine."
    )
    max_samples: int | None = Field(default=None, ge=100, description="Most rows trained on; null: the profile's.")
    cv_folds: int = Field(default=5, ge=5, le=50, description="Folds of cross-validation, at least 5.")
    l2_grid_points: int | None = Field(default=None, ge=1, le=50, description="Penalties tried; null: the profile's.")
    l2_smallest: float = Field(default=1e-3, gt=0.0, description="Smallest penalty, relative to a row's mean loss.")
    l2_largest: float = Field(default=1.0, gt=0.0, description="Largest penalty.")
    boosting_learning_rate: float = Field(default=0.15, gt=0.0, le=1.0, description="Shrinkage of each tree.")
    boosting_leaf_nodes: tuple[int, ...] = Field(default=(4,), description="Leaves of a tree; each number is tried.")
    boosting_min_samples_leaf: int = Field(default=50, ge=1, description="Rows in a leaf at least.")
    boosting_l2: float = Field(default=1.0, ge=0.0, description="Penalty on leaf values.")
    boosting_rising: tuple[str, ...] = Field(
        default=RISING_FEATURES, description="Features that may only raise a boosted score."
    )
    unit_balance_exponent: float = Field(
        default=0.5, ge=0.0, le=1.0, description="Weight of a network in training: 0 by its rows, 1 all networks alike."
    )
    rule_balance_exponent: float = Field(
        default=0.5, ge=0.0, le=1.0, description="The same for the rules within a network."
    )
    prior_order: PriorOrder = Field(
        default="separate_sites", description="Whose adjudications feature 41 may use: separate_sites or calendar."
    )
    target_precision: float = Field(
        default=0.75, gt=0.0, lt=1.0, description="The operating point has the highest recall at this precision."
    )
    bootstrap_replicates: int = Field(default=200, ge=20, description="Resamplings of hosts behind each interval.")
    model_version: str | None = Field(
        default=None, description="Version written into the model; null: rules-<date of the last row>.ml.v1."
    )


def run(params: TrainParams, *, seed: int, workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Write the model JSON, its metadata and ``reports/train.json``.

    Parameters
    ----------
    params : TrainParams
        Sizes, grids and options.
    seed : int
        Seeds the bootstrap; nothing else is random.

    Raises
    ------
    ConfigError
        The corpus is missing or too small to be split.
    """
    machine = detect_machine()
    profile = resolve_profile(params.resource_profile, machine)
    max_samples = params.max_samples or profile.max_samples
    corpus = workspace.processed / "corpus.parquet"
    training = select_and_fit(load_dataset(corpus, max_samples).labelled(), params, profile, progress)
    write_artefact(workspace.models / "signature-ml-model.json", training.document())
    report = training_report(training, np.random.default_rng(seed), params.bootstrap_replicates)
    report |= {
        "max_samples": max_samples,
        "holdout_fraction": profile.holdout_fraction,
        "options": {
            "unit_balance_exponent": params.unit_balance_exponent,
            "rule_balance_exponent": params.rule_balance_exponent,
            "prior_order": params.prior_order,
        },
    }
    write_report(workspace.reports / "train.json", report)
    metadata = {
        **model_facts(training),
        "resource_profile": profile.name,
        "requested_resource_profile": params.resource_profile,
        "detected_cpu_count": machine.cpu_count,
        "detected_memory_gib": round(machine.memory_gib, 2),
        "effective_max_iter": profile.max_iterations,
        "effective_max_samples": max_samples,
        "effective_l2_grid_points": params.l2_grid_points or profile.l2_grid_points,
        "sampled_from_rows": int(pq.read_metadata(corpus).num_rows),
    }
    write_report(workspace.models / "signature-ml-model-metadata.json", metadata)
    return report


def select_and_fit(
    data: Dataset, params: TrainParams, profile: ResourceProfile, progress: Progress | None = None
) -> Training:
    """Hold out, cross-validate, choose, calibrate and fit; nothing is written.

    Raises
    ------
    ConfigError
        There are too few units, hosts or labels to be split.
    """
    holdout = plan_holdout(data, profile.holdout_fraction)
    folds = plan_folds(data, holdout.training, params.cv_folds)
    options = _fitting_options(params)
    linear, boosted = specifications(params, profile)
    results = cross_validate(data, folds, [*linear, *boosted], options, progress)
    chosen = _choose(results[: len(linear)], results[len(linear) :])
    rows, weights = calibration_rows(data, chosen.raw_logit)
    platt = fit_platt(chosen.raw_logit[rows], data.labels[rows], weights)
    probability = probability_of(chosen.raw_logit[rows], platt)
    return Training(
        version=params.model_version or _version(data),
        data=data,
        holdout=holdout,
        folds=folds,
        results=results,
        chosen=chosen,
        platt=platt,
        operating_point=operating_point(probability, data.labels[rows], weights, params.target_precision),
        model=fit_model(data, holdout.training, chosen.specification, options),
    )


def _fitting_options(params: TrainParams) -> FittingOptions:
    return FittingOptions(params.unit_balance_exponent, params.rule_balance_exponent, params.prior_order)


def specifications(params: TrainParams, profile: ResourceProfile) -> tuple[list[Specification], list[Specification]]:
    """Return the candidates of both kinds, simplest first.

    Raises
    ------
    ConfigError
        A feature that may only raise the score does not exist.
    """
    unknown = [name for name in params.boosting_rising if name not in FEATURE_NAMES]
    if unknown:
        raise ConfigError(f"train.boosting_rising names {unknown[0]!r}, which is no feature", unknown=unknown)
    n_points = params.l2_grid_points or profile.l2_grid_points
    grid = np.geomspace(params.l2_largest, params.l2_smallest, n_points)
    linear: list[Specification] = [Logistic(float(f"{l2:.4g}"), profile.max_iterations) for l2 in grid]
    boosted: list[Specification] = [
        Boosting(
            max_iterations=profile.max_iterations,
            learning_rate=params.boosting_learning_rate,
            max_leaf_nodes=leaves,
            min_samples_leaf=params.boosting_min_samples_leaf,
            l2=params.boosting_l2,
            rising=tuple(FEATURE_NAMES.index(name) for name in params.boosting_rising),
        )
        for leaves in sorted(params.boosting_leaf_nodes)
    ]
    return linear, boosted


def _choose(linear: list[CrossValidation], boosted: list[CrossValidation]) -> CrossValidation:
    """Return the better kind, each at its simplest within one standard error; the linear one on a tie."""
    simplest = simplest_within_one_error(linear)
    if not boosted:
        return simplest
    trees = simplest_within_one_error(boosted)
    return trees if is_clearly_better(trees, simplest) else simplest


def _version(data: Dataset) -> str:
    last = datetime.fromtimestamp(float(data.time_unix.max()), UTC)
    return f"rules-{last:%Y.%m.%d}.ml.v1"

"""The estimators: pure functions and small classes over arrays; no input or output, no logging, no clock.

Robust location and aggregation, divergences, the fleet seed's posterior, windows and drift, conformal prediction,
mutual information and periodicity. Each exists for one stream or sample and, where many run at once, vectorised; the
two are held equal by property tests. Randomness comes in as a :class:`numpy.random.Generator`; invalid input raises
:class:`~eguard.errors.EstimatorInputError`, which names the argument.
"""

from eguard.estimators.adwin import Adwin, adwin_epsilon
from eguard.estimators.adwin_bank import AdwinBank
from eguard.estimators.aggregation import (
    FleetDistribution,
    FleetDistributions,
    aggregate_distributions,
    aggregate_many,
)
from eguard.estimators.beacon import BeaconOptions, BeaconScores, beacon_regularity, destination_rarity
from eguard.estimators.clusters import effective_size, intraclass_correlation, share_correlation
from eguard.estimators.conformal import (
    ConformalThreshold,
    MondrianThresholds,
    conformal_p_values,
    conformal_rank,
    conformal_threshold,
    mondrian_thresholds,
    pac_rank,
)
from eguard.estimators.count_bounds import binomial_bound, poisson_bound
from eguard.estimators.cusum import Cusum, CusumBank
from eguard.estimators.dirichlet import dirichlet_posterior, seed_concentration, smoothed_prior_mean
from eguard.estimators.divergence import jensen_shannon_bias_nats, jensen_shannon_nats, kl_divergence_bits
from eguard.estimators.geometric_median import geometric_median, geometric_medians
from eguard.estimators.martingale import ConformalMartingale, simple_jumper_log_wealth
from eguard.estimators.mutual_information import (
    joint_counts,
    joint_mutual_information_bits,
    log_buckets,
    mutual_information_bits,
    permutation_mutual_information,
    quantile_buckets,
)
from eguard.estimators.page_hinkley import PageHinkley, PageHinkleySettings
from eguard.estimators.page_hinkley_bank import PageHinkleyBank
from eguard.estimators.periodicity import Periodicity, bowley_skewness, periodicity_score
from eguard.estimators.predictive import (
    kl_exceedance,
    overdispersion,
    predictive_concentration,
    predictive_kl_thresholds,
)
from eguard.estimators.robust import RobustSummary, huber_location, robust_summary, trimmed_mean, trimmed_median
from eguard.estimators.running_moments import RankStandardiser, RunningStandardiser
from eguard.estimators.two_sample import two_sample_ks

__all__ = [
    "Adwin",
    "AdwinBank",
    "BeaconOptions",
    "BeaconScores",
    "ConformalMartingale",
    "ConformalThreshold",
    "Cusum",
    "CusumBank",
    "FleetDistribution",
    "FleetDistributions",
    "MondrianThresholds",
    "PageHinkley",
    "PageHinkleyBank",
    "PageHinkleySettings",
    "Periodicity",
    "RankStandardiser",
    "RobustSummary",
    "RunningStandardiser",
    "adwin_epsilon",
    "aggregate_distributions",
    "aggregate_many",
    "beacon_regularity",
    "binomial_bound",
    "bowley_skewness",
    "conformal_p_values",
    "conformal_rank",
    "conformal_threshold",
    "destination_rarity",
    "dirichlet_posterior",
    "effective_size",
    "geometric_median",
    "geometric_medians",
    "huber_location",
    "intraclass_correlation",
    "jensen_shannon_bias_nats",
    "jensen_shannon_nats",
    "joint_counts",
    "joint_mutual_information_bits",
    "kl_divergence_bits",
    "kl_exceedance",
    "log_buckets",
    "mondrian_thresholds",
    "mutual_information_bits",
    "overdispersion",
    "pac_rank",
    "periodicity_score",
    "permutation_mutual_information",
    "poisson_bound",
    "predictive_concentration",
    "predictive_kl_thresholds",
    "quantile_buckets",
    "robust_summary",
    "seed_concentration",
    "share_correlation",
    "simple_jumper_log_wealth",
    "smoothed_prior_mean",
    "trimmed_mean",
    "trimmed_median",
    "two_sample_ks",
]

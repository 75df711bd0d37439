"""Gauges of the signals: the numbers of the latest look, as the alert rules left them; scrapes measure nothing."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from eguard.fleet.tables import alert_state

FIRING: Final = "eguard_alert_firing"
VALUE: Final = "eguard_alert_value"
BOUND: Final = "eguard_alert_bound"
LOOKED_AT: Final = "eguard_alerts_looked_at_timestamp_seconds"


class _Number(NamedTuple):
    """Where a gauge without labels comes from: a rule, and the name of one of its numbers."""

    rule: str
    name: str
    meaning: str


_NUMBERS: Final[dict[str, _Number]] = {
    "eguard_upload_rows_per_minute": _Number(
        "upload_rejects", "rows_per_minute", "Profiles stored a minute, in the latest complete five minutes."
    ),
    "eguard_upload_agents": _Number(
        "upload_rejects", "agents_uploading", "Agents that uploaded within the last 16 minutes."
    ),
    "eguard_upload_rejects": _Number(
        "upload_rejects",
        "rejected_last_window",
        "Profiles and whole uploads that were rejected in the latest complete five minutes.",
    ),
    "eguard_seed_rows_fetched": _Number(
        "seed_effectiveness", "rows_fetched_24h", "Rows of the fleet's baseline that agents fetched in 24 h."
    ),
    "eguard_seed_rows_applied": _Number(
        "seed_effectiveness", "rows_applied_24h", "Profiles that were reported with a seed in 24 h."
    ),
    "eguard_seed_hit_ratio": _Number(
        "seed_effectiveness",
        "hit_rate",
        "Of the profiles that agents reported within 24 h of asking for seeds, the share that holds one.",
    ),
    "eguard_aggregation_failures": _Number("aggregation", "failures", "Aggregations in a row that have failed."),
    "eguard_aggregation_duration_seconds": _Number(
        "aggregation", "duration_ms", "How long the aggregation of the current generation took."
    ),
    "eguard_aggregation_skipped_keys": _Number("aggregation", "skipped", "Process keys that it left out."),
    "eguard_aggregation_removed_keys": _Number("aggregation", "removed", "Process keys that it no longer publishes."),
    "eguard_stale_transitions": _Number("stale_transitions", "count", "Baselines that became stale in 24 h."),
    "eguard_rollbacks": _Number("safety", "rollbacks_24h", "Generations that were gone back to in 24 h."),
    "eguard_adwin_alarms": _Number("adwin_alarms", "count", "Alarms of ADWIN on all monitored series in 24 h."),
    "eguard_score_ks_p_value": _Number(
        "p_values",
        "p_value",
        "Two-sample test of the last day's scores against the calibration set's; alerts below .01/24.",
    ),
    "eguard_score_ks_statistic": _Number("p_values", "ks_statistic", "Its statistic."),
    "eguard_score_uniform_p_value": _Number(
        "p_values",
        "uniform_p_value",
        "One-sample test of the p-values; it decides nothing, see the page on calibration.",
    ),
    "eguard_score_martingale_decades": _Number(
        "p_values",
        "martingale_log10",
        "Largest wealth of the conformal test martingale since calibration, as a power of ten; 2 is its alarm.",
    ),
    "eguard_score_flagged_ratio": _Number(
        "p_values", "flagged_fraction", "Share of the last day's samples above the served threshold; alpha is promised."
    ),
    "eguard_beacon_agents_above": _Number(
        "high_mi_destinations", "agents_above", "Agents whose beacons of today exceed what chance confirms."
    ),
    "eguard_tree_anomaly_ratio": _Number(
        "tree_anomalies", "rate", "Share of the last hour's process trees whose shape alone is above the threshold."
    ),
}
_MILLISECONDS: Final = frozenset({"eguard_aggregation_duration_seconds"})

SIGNAL_GAUGES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    FIRING: (("rule",), "1 while an alert rule fires, 0 while it does not; missing while nothing is known."),
    VALUE: (("rule",), "Number that an alert rule was judged by at the latest look."),
    BOUND: (("rule",), "Bound that an alert rule's number was compared with at the latest look."),
    LOOKED_AT: ((), "When the alert rules were last judged."),
    "eguard_fleet_js_nats": (
        ("compared_with",),
        "Mean divergence of the current generation beyond its bias, from the one before and from the pinned one.",
    ),
    "eguard_rollout_cohort_agents": (("rollout_id",), "Agents inside the share of a rollout."),
    "eguard_rollout_frozen": (("rollout_id",), "1 while a rollout is frozen."),
    **{name: ((), number.meaning) for name, number in _NUMBERS.items()},
}

Samples = dict[str, dict[tuple[str, ...], float]]


def signal_samples(connection: sa.Connection) -> Samples:
    """Return the samples of `SIGNAL_GAUGES`; a number that was not measured has none."""
    rows = {row.rule: row for row in connection.execute(sa.select(alert_state))}
    numbers: dict[str, dict[str, Any]] = {rule: row.numbers.get("numbers", {}) for rule, row in rows.items()}
    samples: Samples = {
        FIRING: {(rule,): float(row.state == "alert") for rule, row in rows.items() if row.state != "unknown"},
        **{
            gauge: {
                (rule,): float(row.numbers[name]) for rule, row in rows.items() if row.numbers.get(name) is not None
            }
            for gauge, name in ((VALUE, "value"), (BOUND, "bound"))
        },
        LOOKED_AT: {(): max(row.looked_at for row in rows.values())} if rows else {},
        "eguard_fleet_js_nats": {
            (name,): float(series[0])
            for name, series in numbers.get("js_trend", {}).items()
            if series and series[0] is not None
        },
    }
    rollouts = numbers.get("safety", {}).get("rollouts", [])
    samples["eguard_rollout_cohort_agents"] = {(each["rollout_id"],): float(each["cohort_size"]) for each in rollouts}
    samples["eguard_rollout_frozen"] = {(each["rollout_id"],): float(each["is_frozen"]) for each in rollouts}
    for gauge, (rule, name, _) in _NUMBERS.items():
        value = numbers.get(rule, {}).get(name)
        if value is not None:
            samples[gauge] = {(): float(value) / (1000.0 if gauge in _MILLISECONDS else 1.0)}
    return samples

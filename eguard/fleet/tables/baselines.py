"""Baselines as uploaded, and the generations aggregated from them."""

from __future__ import annotations

import sqlalchemy as sa

from eguard.fleet.tables.columns import (
    UtcTime,
    agent_id_type,
    exact_text,
    fixed_bytes,
    metadata,
    process_key_type,
)

endpoint_baseline = sa.Table(
    "endpoint_baseline",
    metadata,
    sa.Column(
        "agent_id", agent_id_type(), sa.ForeignKey("endpoint_agent.agent_id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("process_key", process_key_type(), primary_key=True),
    sa.Column("event_distribution", sa.JSON, nullable=False),
    sa.Column("distribution_vector", fixed_bytes(32), nullable=False),
    sa.Column("sample_count", sa.BigInteger, nullable=False),
    sa.Column("entropy_threshold", sa.Double, nullable=False),
    sa.Column("learned_at", UtcTime, nullable=False),
    sa.Column("continuous", sa.JSON(none_as_null=True)),
    sa.Column("prior_generation", sa.BigInteger),
    sa.Column("key_shard", sa.SmallInteger, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    # Without an index: it would be moved by every upload, and is asked for once a day.
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("incarnation", exact_text(64), nullable=False),
    sa.Column("incarnation_ordinal", sa.Integer, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Index(None, "key_shard", "process_key", "agent_id"),
)


def _fleet_columns() -> list[sa.Column[object]]:
    """Columns that the current generation and its history share."""
    return [
        sa.Column("median_distribution", sa.JSON, nullable=False),
        sa.Column("agent_count", sa.Integer, nullable=False),
        sa.Column("voter_samples", sa.BigInteger, nullable=False),
        sa.Column("stddev_kl", sa.Double, nullable=False),
        sa.Column("pre_norm_mass", sa.Double, nullable=False),
        sa.Column("tolerated_faults", sa.Integer, nullable=False),
        sa.Column("continuous", sa.JSON(none_as_null=True)),
        sa.Column("computed_at", UtcTime, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("source_version", sa.String(64)),
    ]


fleet_baseline = sa.Table(
    "fleet_baseline",
    metadata,
    sa.Column("process_key", process_key_type(), primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    *_fleet_columns(),
)

fleet_baseline_history = sa.Table(
    "fleet_baseline_history",
    metadata,
    sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("process_key", process_key_type(), primary_key=True),
    *_fleet_columns(),
)

fleet_generation = sa.Table(
    "fleet_generation",
    metadata,
    sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("computed_at", UtcTime, nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("source_version", sa.String(64)),
    sa.Column("key_count", sa.Integer, nullable=False),
    sa.Column("is_reference", sa.Boolean, nullable=False),
    sa.Column("is_pruned", sa.Boolean, nullable=False),
    sa.Column("report", sa.JSON(none_as_null=True)),
)

fleet_health = sa.Table(
    "fleet_health",
    metadata,
    sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("compared_with", sa.String(16), primary_key=True),
    sa.Column("other_generation", sa.BigInteger, nullable=False),
    sa.Column("computed_at", UtcTime, nullable=False),
    sa.Column("common_keys", sa.Integer, nullable=False),
    sa.Column("js_mean", sa.Double),
    sa.Column("js_mean_bias", sa.Double),
    sa.Column("js_max", sa.Double),
    sa.Column("js_max_bias", sa.Double),
    sa.Column("js_max_key", process_key_type()),
    sa.Column("new_key_share", sa.Double, nullable=False),
    sa.Column("new_key_count", sa.Integer, nullable=False),
    sa.Column("new_keys", sa.JSON, nullable=False),
    sa.Column("vanished_key_count", sa.Integer, nullable=False),
    sa.Column("vanished_keys", sa.JSON, nullable=False),
)

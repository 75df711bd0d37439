"""Baselines and generations, as the first migration makes them. Frozen: a change is a later migration."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.migrations.building import FrozenTable, exact, fixed_bytes, moment

TABLES: Final = (
    FrozenTable(
        "endpoint_baseline",
        (
            sa.Column("agent_id", exact(128), nullable=False),
            sa.Column("process_key", exact(512), nullable=False),
            sa.Column("event_distribution", sa.JSON(), nullable=False),
            sa.Column("distribution_vector", fixed_bytes(32), nullable=False),
            sa.Column("sample_count", sa.BigInteger(), nullable=False),
            sa.Column("entropy_threshold", sa.Double(), nullable=False),
            sa.Column("learned_at", moment(), nullable=False),
            sa.Column("continuous", sa.JSON()),
            sa.Column("prior_generation", sa.BigInteger()),
            sa.Column("key_shard", sa.SmallInteger(), nullable=False),
            sa.Column("updated_at", moment(), nullable=False),
            sa.Column("expires_at", moment(), nullable=False),
            sa.Column("incarnation", exact(64), nullable=False),
            sa.Column("incarnation_ordinal", sa.Integer(), nullable=False),
            sa.Column("seq", sa.BigInteger(), nullable=False),
            sa.PrimaryKeyConstraint("agent_id", "process_key", name="pk_endpoint_baseline"),
            sa.ForeignKeyConstraint(
                ["agent_id"],
                ["endpoint_agent.agent_id"],
                name="fk_endpoint_baseline_agent_id_endpoint_agent",
                ondelete="CASCADE",
            ),
        ),
        {
            "ix_endpoint_baseline_key_shard_process_key_agent_id": (
                "key_shard",
                "process_key",
                "agent_id",
            ),
        },
    ),
    FrozenTable(
        "fleet_baseline",
        (
            sa.Column("process_key", exact(512), nullable=False),
            sa.Column("generation", sa.BigInteger(), nullable=False),
            sa.Column("median_distribution", sa.JSON(), nullable=False),
            sa.Column("agent_count", sa.Integer(), nullable=False),
            sa.Column("voter_samples", sa.BigInteger(), nullable=False),
            sa.Column("stddev_kl", sa.Double(), nullable=False),
            sa.Column("pre_norm_mass", sa.Double(), nullable=False),
            sa.Column("tolerated_faults", sa.Integer(), nullable=False),
            sa.Column("continuous", sa.JSON()),
            sa.Column("computed_at", moment(), nullable=False),
            sa.Column("source", sa.String(16), nullable=False),
            sa.Column("source_version", sa.String(64)),
            sa.PrimaryKeyConstraint("process_key", name="pk_fleet_baseline"),
        ),
        {},
    ),
    FrozenTable(
        "fleet_baseline_history",
        (
            sa.Column("generation", sa.BigInteger(), nullable=False, autoincrement=False),
            sa.Column("process_key", exact(512), nullable=False),
            sa.Column("median_distribution", sa.JSON(), nullable=False),
            sa.Column("agent_count", sa.Integer(), nullable=False),
            sa.Column("voter_samples", sa.BigInteger(), nullable=False),
            sa.Column("stddev_kl", sa.Double(), nullable=False),
            sa.Column("pre_norm_mass", sa.Double(), nullable=False),
            sa.Column("tolerated_faults", sa.Integer(), nullable=False),
            sa.Column("continuous", sa.JSON()),
            sa.Column("computed_at", moment(), nullable=False),
            sa.Column("source", sa.String(16), nullable=False),
            sa.Column("source_version", sa.String(64)),
            sa.PrimaryKeyConstraint("generation", "process_key", name="pk_fleet_baseline_history"),
        ),
        {},
    ),
    FrozenTable(
        "fleet_generation",
        (
            sa.Column("generation", sa.BigInteger(), nullable=False, autoincrement=False),
            sa.Column("computed_at", moment(), nullable=False),
            sa.Column("source", sa.String(16), nullable=False),
            sa.Column("source_version", sa.String(64)),
            sa.Column("key_count", sa.Integer(), nullable=False),
            sa.Column("is_reference", sa.Boolean(), nullable=False),
            sa.Column("is_pruned", sa.Boolean(), nullable=False),
            sa.Column("report", sa.JSON()),
            sa.PrimaryKeyConstraint("generation", name="pk_fleet_generation"),
        ),
        {},
    ),
    FrozenTable(
        "fleet_health",
        (
            sa.Column("generation", sa.BigInteger(), nullable=False, autoincrement=False),
            sa.Column("compared_with", sa.String(16), nullable=False),
            sa.Column("other_generation", sa.BigInteger(), nullable=False),
            sa.Column("computed_at", moment(), nullable=False),
            sa.Column("common_keys", sa.Integer(), nullable=False),
            sa.Column("js_mean", sa.Double()),
            sa.Column("js_mean_bias", sa.Double()),
            sa.Column("js_max", sa.Double()),
            sa.Column("js_max_bias", sa.Double()),
            sa.Column("js_max_key", exact(512)),
            sa.Column("new_key_share", sa.Double(), nullable=False),
            sa.Column("new_key_count", sa.Integer(), nullable=False),
            sa.Column("new_keys", sa.JSON(), nullable=False),
            sa.Column("vanished_key_count", sa.Integer(), nullable=False),
            sa.Column("vanished_keys", sa.JSON(), nullable=False),
            sa.PrimaryKeyConstraint("generation", "compared_with", name="pk_fleet_health"),
        ),
        {},
    ),
)

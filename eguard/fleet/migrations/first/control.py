"""Policies, whitelist and counters, as the first migration makes them. Frozen: a change is a later migration."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.migrations.building import FrozenTable, exact, moment

TABLES: Final = (
    FrozenTable(
        "server_counter",
        (
            sa.Column("name", sa.String(32), nullable=False),
            sa.Column("value", sa.BigInteger(), nullable=False),
            sa.PrimaryKeyConstraint("name", name="pk_server_counter"),
        ),
        {},
    ),
    FrozenTable(
        "policy",
        (
            sa.Column("revision", sa.BigInteger(), nullable=False, autoincrement=False),
            sa.Column("policy_id", exact(64), nullable=False),
            sa.Column("policy_version", exact(64), nullable=False),
            sa.Column("rollout_id", exact(64), nullable=False),
            sa.Column("mode_revision", sa.BigInteger(), nullable=False),
            sa.Column("document", sa.JSON(), nullable=False),
            sa.Column("reason", sa.String(255), nullable=False),
            sa.Column("created_by", sa.String(128), nullable=False),
            sa.Column("created_at", moment(), nullable=False),
            sa.PrimaryKeyConstraint("revision", name="pk_policy"),
        ),
        {
            "ix_policy_policy_id_revision": (
                "policy_id",
                "revision",
            ),
        },
    ),
    FrozenTable(
        "policy_assignment",
        (
            sa.Column("scope", sa.String(8), nullable=False),
            sa.Column("scope_id", exact(128), nullable=False),
            sa.Column("policy_id", exact(64)),
            sa.Column("policy_version", exact(64)),
            sa.Column("revision", sa.BigInteger(), nullable=False),
            sa.Column("assigned_by", sa.String(128), nullable=False),
            sa.Column("assigned_at", moment(), nullable=False),
            sa.PrimaryKeyConstraint("scope", "scope_id", name="pk_policy_assignment"),
        ),
        {
            "ix_policy_assignment_revision": ("revision",),
        },
    ),
    FrozenTable(
        "rollout",
        (
            sa.Column("rollout_id", exact(64), nullable=False),
            sa.Column("policy_id", exact(64), nullable=False),
            sa.Column("stage_percent", sa.Double(), nullable=False),
            sa.Column("stage_since", moment(), nullable=False),
            sa.Column("frozen_at", moment()),
            sa.Column("frozen_by", sa.String(128)),
            sa.Column("frozen_reason", sa.String(255)),
            sa.PrimaryKeyConstraint("rollout_id", name="pk_rollout"),
        ),
        {},
    ),
    FrozenTable(
        "endpoint_whitelist",
        (
            sa.Column("entry_id", sa.String(32), nullable=False),
            sa.Column("kind", sa.String(16), nullable=False),
            sa.Column("value", exact(512), nullable=False),
            sa.Column("scope", sa.String(8), nullable=False),
            sa.Column("scope_id", exact(128), nullable=False),
            sa.Column("reason", sa.String(255), nullable=False),
            sa.Column("created_by", sa.String(128), nullable=False),
            sa.Column("created_at", moment(), nullable=False),
            sa.Column("expires_at", moment()),
            sa.PrimaryKeyConstraint("entry_id", name="pk_endpoint_whitelist"),
        ),
        {},
    ),
    FrozenTable(
        "policy_key",
        (
            sa.Column("key_id", sa.String(64), nullable=False),
            sa.Column("public_key", sa.String(64), nullable=False),
            sa.Column("created_at", moment(), nullable=False),
            sa.Column("active_from", moment(), nullable=False),
            sa.Column("retired_at", moment()),
            sa.PrimaryKeyConstraint("key_id", name="pk_policy_key"),
        ),
        {},
    ),
)

"""Endpoints, as the first migration makes them. Frozen: a change is a later migration."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.migrations.building import FrozenTable, exact, moment

TABLES: Final = (
    FrozenTable(
        "endpoint_agent",
        (
            sa.Column("agent_id", exact(128), nullable=False),
            sa.Column("incarnation", exact(64), nullable=False),
            sa.Column("incarnation_ordinal", sa.Integer(), nullable=False),
            sa.Column("group", exact(64), nullable=False),
            sa.Column("group_revision", sa.BigInteger(), server_default="0", nullable=False),
            sa.Column("status", sa.String(16), nullable=False),
            sa.Column("agent_version", sa.String(64)),
            sa.Column("bundle_version", sa.String(64)),
            sa.Column("policy_revision", sa.BigInteger()),
            sa.Column("baseline_status", sa.String(16)),
            sa.Column("cpu_fraction", sa.Double()),
            sa.Column("rss_bytes", sa.BigInteger()),
            sa.Column("events_total", sa.BigInteger()),
            sa.Column("events_lost", sa.BigInteger()),
            sa.Column("queue_depth", sa.BigInteger()),
            sa.Column("address", sa.String(64)),
            sa.Column("last_heartbeat", moment()),
            sa.Column("heard_hours", sa.Integer(), nullable=False, server_default="0"),
            sa.Column("heard_hour", sa.Integer()),
            sa.Column("enrolled_at", moment(), nullable=False),
            sa.Column("enrolled_with", sa.String(32)),
            sa.Column("quarantined_at", moment()),
            sa.Column("decommissioned_at", moment()),
            sa.Column("cloned_at", moment()),
            sa.PrimaryKeyConstraint("agent_id", name="pk_endpoint_agent"),
        ),
        {
            "ix_endpoint_agent_last_heartbeat": ("last_heartbeat",),
        },
    ),
    FrozenTable(
        "endpoint_incarnation",
        (
            sa.Column("agent_id", exact(128), nullable=False),
            sa.Column("incarnation", exact(64), nullable=False),
            sa.Column("ordinal", sa.Integer(), nullable=False),
            sa.Column("registered_at", moment(), nullable=False),
            sa.PrimaryKeyConstraint("agent_id", "incarnation", name="pk_endpoint_incarnation"),
            sa.ForeignKeyConstraint(
                ["agent_id"],
                ["endpoint_agent.agent_id"],
                name="fk_endpoint_incarnation_agent_id_endpoint_agent",
                ondelete="CASCADE",
            ),
        ),
        {},
    ),
    FrozenTable(
        "endpoint_certificate",
        (
            sa.Column("serial", sa.String(40), nullable=False),
            sa.Column("agent_id", exact(128), nullable=False),
            sa.Column("fingerprint", sa.String(64), nullable=False),
            sa.Column("not_before", moment(), nullable=False),
            sa.Column("not_after", moment(), nullable=False),
            sa.Column("issued_at", moment(), nullable=False),
            sa.Column("issued_for", sa.String(16), nullable=False),
            sa.Column("revoked_at", moment()),
            sa.Column("revoked_reason", sa.String(255)),
            sa.PrimaryKeyConstraint("serial", name="pk_endpoint_certificate"),
        ),
        {
            "ix_endpoint_certificate_agent_id": ("agent_id",),
            "ix_endpoint_certificate_revoked_at": ("revoked_at",),
        },
    ),
    FrozenTable(
        "endpoint_inventory",
        (
            sa.Column("agent_id", exact(128), nullable=False),
            sa.Column("hostname", sa.String(255), nullable=False),
            sa.Column("os_type", sa.String(32), nullable=False),
            sa.Column("os_version", sa.String(128), nullable=False),
            sa.Column("kernel_version", sa.String(128), nullable=False),
            sa.Column("architecture", sa.String(32), nullable=False),
            sa.Column("ip_address", sa.String(64), nullable=False),
            sa.Column("mac_address", sa.String(32), nullable=False),
            sa.Column("cpu_count", sa.Integer(), nullable=False),
            sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
            sa.Column("boot_time", moment()),
            sa.Column("agent_version", sa.String(64), nullable=False),
            sa.Column("sensor", sa.String(32), nullable=False),
            sa.Column("facts", sa.JSON()),
            sa.Column("collected_at", moment(), nullable=False),
            sa.PrimaryKeyConstraint("agent_id", name="pk_endpoint_inventory"),
            sa.ForeignKeyConstraint(
                ["agent_id"],
                ["endpoint_agent.agent_id"],
                name="fk_endpoint_inventory_agent_id_endpoint_agent",
                ondelete="CASCADE",
            ),
        ),
        {
            "ix_endpoint_inventory_collected_at": ("collected_at",),
            "ix_endpoint_inventory_os_type": ("os_type",),
        },
    ),
    FrozenTable(
        "enrollment_token",
        (
            sa.Column("token_id", sa.String(32), nullable=False),
            sa.Column("token_hash", sa.String(64), nullable=False),
            sa.Column("group", exact(64), nullable=False),
            sa.Column("max_uses", sa.Integer(), nullable=False),
            sa.Column("uses", sa.Integer(), nullable=False),
            sa.Column("note", sa.String(255), nullable=False),
            sa.Column("created_by", sa.String(128), nullable=False),
            sa.Column("created_at", moment(), nullable=False),
            sa.Column("expires_at", moment(), nullable=False),
            sa.Column("revoked_at", moment()),
            sa.PrimaryKeyConstraint("token_id", name="pk_enrollment_token"),
            sa.UniqueConstraint("token_hash", name="uq_enrollment_token_token_hash"),
        ),
        {},
    ),
    FrozenTable(
        "endpoint_command",
        (
            sa.Column("command_id", sa.String(32), nullable=False),
            sa.Column("agent_id", exact(128), nullable=False),
            sa.Column("kind", sa.String(32), nullable=False),
            sa.Column("arguments", sa.JSON(), nullable=False),
            sa.Column("reason", sa.String(255), nullable=False),
            sa.Column("status", sa.String(16), nullable=False),
            sa.Column("created_by", sa.String(128), nullable=False),
            sa.Column("created_at", moment(), nullable=False),
            sa.Column("delivered_at", moment()),
            sa.Column("finished_at", moment()),
            sa.Column("expires_at", moment(), nullable=False),
            sa.Column("result", sa.JSON()),
            sa.PrimaryKeyConstraint("command_id", name="pk_endpoint_command"),
            sa.ForeignKeyConstraint(
                ["agent_id"],
                ["endpoint_agent.agent_id"],
                name="fk_endpoint_command_agent_id_endpoint_agent",
                ondelete="CASCADE",
            ),
        ),
        {
            "ix_endpoint_command_agent_id_status": (
                "agent_id",
                "status",
            ),
        },
    ),
)

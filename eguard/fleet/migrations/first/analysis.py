"""Events, incidents and verdicts, as the first migration makes them. Frozen: a change is a later migration."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.migrations.building import FrozenTable, exact, long_text, moment

TABLES: Final = (
    FrozenTable(
        "endpoint_event",
        (
            sa.Column("event_id", exact(128), nullable=False),
            sa.Column("agent_id", exact(128), nullable=False),
            sa.Column("incident_id", sa.String(32)),
            sa.Column("observed_at", moment(), nullable=False),
            sa.Column("received_at", moment(), nullable=False),
            sa.Column("event_class", sa.String(32), nullable=False),
            sa.Column("process_key", exact(512), nullable=False),
            sa.Column("rule_id", exact(255), nullable=False),
            sa.Column("severity", sa.String(16), nullable=False),
            sa.Column("score", sa.Double()),
            sa.Column("p_value", sa.Double()),
            sa.Column("model_version", sa.String(128)),
            sa.Column("features", sa.JSON()),
            sa.Column("detail", sa.JSON(), nullable=False),
            sa.Column("search_text", long_text(1_000_000), nullable=False),
            sa.Column("suppressed_by", sa.String(32)),
            sa.PrimaryKeyConstraint("event_id", name="pk_endpoint_event"),
        ),
        {
            "ix_endpoint_event_agent_id_observed_at": (
                "agent_id",
                "observed_at",
            ),
            "ix_endpoint_event_incident_id": ("incident_id",),
            "ix_endpoint_event_observed_at": ("observed_at",),
            "ix_endpoint_event_received_at": ("received_at",),
            "ix_endpoint_event_severity": ("severity",),
        },
    ),
    FrozenTable(
        "incident",
        (
            sa.Column("incident_id", sa.String(32), nullable=False),
            sa.Column("agent_id", exact(128), nullable=False),
            sa.Column("title", sa.String(255), nullable=False),
            sa.Column("severity", sa.String(16), nullable=False),
            sa.Column("status", sa.String(16), nullable=False),
            sa.Column("assignee", sa.String(128)),
            sa.Column("alerts", sa.Integer(), nullable=False),
            sa.Column("first_at", moment(), nullable=False),
            sa.Column("last_at", moment(), nullable=False),
            sa.Column("grouping", sa.JSON(), nullable=False),
            sa.PrimaryKeyConstraint("incident_id", name="pk_incident"),
        ),
        {
            "ix_incident_agent_id_last_at": (
                "agent_id",
                "last_at",
            ),
        },
    ),
    FrozenTable(
        "alert_feedback",
        (
            sa.Column("feedback_id", sa.String(32), nullable=False),
            sa.Column("event_id", exact(128), nullable=False),
            sa.Column("verdict", sa.String(16), nullable=False),
            sa.Column("analyst", sa.String(128), nullable=False),
            sa.Column("note", long_text(20_000), nullable=False),
            sa.Column("created_at", moment(), nullable=False),
            sa.PrimaryKeyConstraint("feedback_id", name="pk_alert_feedback"),
        ),
        {
            "ix_alert_feedback_created_at": ("created_at",),
            "ix_alert_feedback_event_id": ("event_id",),
        },
    ),
    FrozenTable(
        "calibration_sample",
        (
            sa.Column("sample_id", exact(128), nullable=False),
            sa.Column("agent_id", exact(128), nullable=False),
            sa.Column("event_class", sa.String(32), nullable=False),
            sa.Column("features", sa.JSON(), nullable=False),
            sa.Column("contract_hash", sa.String(64), nullable=False),
            sa.Column("observed_at", moment(), nullable=False),
            sa.Column("received_at", moment(), nullable=False),
            sa.Column("signal", exact(255), nullable=False),
            sa.Column("score", sa.Double()),
            sa.Column("model_digest", sa.String(64)),
            sa.Column("event_id", exact(128)),
            sa.PrimaryKeyConstraint("sample_id", name="pk_calibration_sample"),
        ),
        {
            "ix_calibration_sample_agent_id_received_at": (
                "agent_id",
                "received_at",
            ),
            "ix_calibration_sample_received_at": ("received_at",),
        },
    ),
)

"""What agents reported and what analysts said of it."""

from __future__ import annotations

import sqlalchemy as sa

from eguard.fleet.tables.columns import UtcTime, agent_id_type, exact_text, long_text, metadata

#: Alerts and events. `event_id` is the agent's alert id, so that what arrives twice is stored once.
endpoint_event = sa.Table(
    "endpoint_event",
    metadata,
    sa.Column("event_id", exact_text(128), primary_key=True),
    sa.Column("agent_id", agent_id_type(), nullable=False),
    sa.Column("incident_id", sa.String(32), index=True),
    sa.Column("observed_at", UtcTime, nullable=False, index=True),
    sa.Column("received_at", UtcTime, nullable=False, index=True),
    sa.Column("event_class", sa.String(32), nullable=False),
    sa.Column("process_key", exact_text(512), nullable=False),
    sa.Column("rule_id", exact_text(255), nullable=False),
    sa.Column("severity", sa.String(16), nullable=False, index=True),
    sa.Column("score", sa.Double),
    sa.Column("p_value", sa.Double),
    sa.Column("model_version", sa.String(128)),
    sa.Column("features", sa.JSON(none_as_null=True)),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Column("search_text", long_text(1_000_000), nullable=False),
    sa.Column("suppressed_by", sa.String(32)),
    sa.Index(None, "agent_id", "observed_at"),
)

#: Alerts of one host within an hour that share a process tree or a rule.
incident = sa.Table(
    "incident",
    metadata,
    sa.Column("incident_id", sa.String(32), primary_key=True),
    sa.Column("agent_id", agent_id_type(), nullable=False),
    sa.Column("title", sa.String(255), nullable=False),
    sa.Column("severity", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("assignee", sa.String(128)),
    sa.Column("alerts", sa.Integer, nullable=False),
    sa.Column("first_at", UtcTime, nullable=False),
    sa.Column("last_at", UtcTime, nullable=False),
    sa.Column("grouping", sa.JSON, nullable=False),
    sa.Index(None, "agent_id", "last_at"),
)

#: Append-only; the latest verdict of an event counts.
alert_feedback = sa.Table(
    "alert_feedback",
    metadata,
    sa.Column("feedback_id", sa.String(32), primary_key=True),
    sa.Column("event_id", exact_text(128), nullable=False, index=True),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("analyst", sa.String(128), nullable=False),
    sa.Column("note", long_text(20_000), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False, index=True),
)

#: Uniform samples of scored events, as agents draw them. `event_id` is the alert that one gave, `signal` what counts as
#: its rule; `score` is what the model of `model_digest` said. Features do not depend on a model, but for two columns.
calibration_sample = sa.Table(
    "calibration_sample",
    metadata,
    sa.Column("sample_id", exact_text(128), primary_key=True),
    sa.Column("agent_id", agent_id_type(), nullable=False),
    sa.Column("event_class", sa.String(32), nullable=False),
    sa.Column("features", sa.JSON, nullable=False),
    sa.Column("contract_hash", sa.String(64), nullable=False),
    sa.Column("observed_at", UtcTime, nullable=False),
    sa.Column("received_at", UtcTime, nullable=False, index=True),
    sa.Column("signal", exact_text(255), nullable=False),
    sa.Column("score", sa.Double),
    sa.Column("model_digest", sa.String(64)),
    sa.Column("event_id", exact_text(128)),
    sa.Index(None, "agent_id", "received_at"),
)

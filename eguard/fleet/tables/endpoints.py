"""Endpoints: who is in the fleet, with which certificate, on what machine, and what it was told to do."""

from __future__ import annotations

import sqlalchemy as sa

from eguard.fleet.tables.columns import UtcTime, agent_id_type, exact_text, metadata

#: `status` is ``active``, ``quarantined`` (rows kept, no votes) or ``decommissioned`` (refused until enrolled again).
#: `group_revision` is the policy revision at which the agent was moved into its group. `heard_hours` counts the clock's
#: hours with a heartbeat since the agent enrolled, and `heard_hour` is the latest of them, in hours since 1970.
#: `bundle_digest` is the manifest of the bundle in use, heard of first at `bundle_since`; `refused_digest` is that of
#: the bundle which the agent refused last, for `refused_code`. `shadow` is a `ShadowSummary`.
endpoint_agent = sa.Table(
    "endpoint_agent",
    metadata,
    sa.Column("agent_id", agent_id_type(), primary_key=True),
    sa.Column("incarnation", exact_text(64), nullable=False),
    sa.Column("incarnation_ordinal", sa.Integer, nullable=False),
    sa.Column("group", exact_text(64), nullable=False),
    sa.Column("group_revision", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("agent_version", sa.String(64)),
    sa.Column("bundle_version", sa.String(64)),
    sa.Column("bundle_digest", sa.String(64)),
    sa.Column("bundle_since", UtcTime),
    sa.Column("bundle_state", sa.String(16)),
    sa.Column("refused_digest", sa.String(64)),
    sa.Column("refused_code", sa.String(32)),
    sa.Column("shadow", sa.JSON(none_as_null=True)),
    sa.Column("policy_revision", sa.BigInteger),
    sa.Column("baseline_status", sa.String(16)),
    sa.Column("cpu_fraction", sa.Double),
    sa.Column("rss_bytes", sa.BigInteger),
    sa.Column("events_total", sa.BigInteger),
    sa.Column("events_lost", sa.BigInteger),
    sa.Column("queue_depth", sa.BigInteger),
    sa.Column("trees_seen", sa.BigInteger),
    sa.Column("trees_anomalous", sa.BigInteger),
    sa.Column("destinations_scored", sa.BigInteger),
    sa.Column("destinations_confirmed", sa.BigInteger),
    sa.Column("destinations_alpha", sa.Double),
    sa.Column("last_upload_at", UtcTime),
    sa.Column("last_seed_at", UtcTime),
    sa.Column("address", sa.String(64)),
    sa.Column("last_heartbeat", UtcTime, index=True),
    sa.Column("heard_hours", sa.Integer, nullable=False, server_default="0"),
    sa.Column("heard_hour", sa.Integer),
    sa.Column("enrolled_at", UtcTime, nullable=False),
    sa.Column("enrolled_with", sa.String(32)),
    sa.Column("quarantined_at", UtcTime),
    sa.Column("decommissioned_at", UtcTime),
    sa.Column("cloned_at", UtcTime),
)

#: Every incarnation that an agent ever had, in the order in which the server first heard of it. One that is heard again
#: after a later one was registered belongs to a second machine with the same certificate.
endpoint_incarnation = sa.Table(
    "endpoint_incarnation",
    metadata,
    sa.Column(
        "agent_id", agent_id_type(), sa.ForeignKey("endpoint_agent.agent_id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("incarnation", exact_text(64), primary_key=True),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("registered_at", UtcTime, nullable=False),
)

#: Certificates that this server's authority issued; the serial number in hexadecimal. An agent's row may come later.
endpoint_certificate = sa.Table(
    "endpoint_certificate",
    metadata,
    sa.Column("serial", sa.String(40), primary_key=True),
    sa.Column("agent_id", agent_id_type(), nullable=False, index=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("not_before", UtcTime, nullable=False),
    sa.Column("not_after", UtcTime, nullable=False),
    sa.Column("issued_at", UtcTime, nullable=False),
    sa.Column("issued_for", sa.String(16), nullable=False),
    sa.Column("revoked_at", UtcTime, index=True),
    sa.Column("revoked_reason", sa.String(255)),
)

endpoint_inventory = sa.Table(
    "endpoint_inventory",
    metadata,
    sa.Column(
        "agent_id", agent_id_type(), sa.ForeignKey("endpoint_agent.agent_id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("hostname", sa.String(255), nullable=False),
    sa.Column("os_type", sa.String(32), nullable=False, index=True),
    sa.Column("os_version", sa.String(128), nullable=False),
    sa.Column("kernel_version", sa.String(128), nullable=False),
    sa.Column("architecture", sa.String(32), nullable=False),
    sa.Column("ip_address", sa.String(64), nullable=False),
    sa.Column("mac_address", sa.String(32), nullable=False),
    sa.Column("cpu_count", sa.Integer, nullable=False),
    sa.Column("memory_bytes", sa.BigInteger, nullable=False),
    sa.Column("boot_time", UtcTime),
    sa.Column("agent_version", sa.String(64), nullable=False),
    sa.Column("sensor", sa.String(32), nullable=False),
    sa.Column("facts", sa.JSON(none_as_null=True)),
    sa.Column("collected_at", UtcTime, nullable=False, index=True),
)

#: Tokens are kept as SHA-256 only. A token's `uses` rises in the transaction that issues the certificate.
enrollment_token = sa.Table(
    "enrollment_token",
    metadata,
    sa.Column("token_id", sa.String(32), primary_key=True),
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("group", exact_text(64), nullable=False),
    sa.Column("max_uses", sa.Integer, nullable=False),
    sa.Column("uses", sa.Integer, nullable=False),
    sa.Column("note", sa.String(255), nullable=False),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("revoked_at", UtcTime),
)

#: `kind` is ``isolate`` or ``allow``; `status` is ``pending``, ``delivered``, ``done``, ``failed`` or ``expired``.
endpoint_command = sa.Table(
    "endpoint_command",
    metadata,
    sa.Column("command_id", sa.String(32), primary_key=True),
    sa.Column(
        "agent_id", agent_id_type(), sa.ForeignKey("endpoint_agent.agent_id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("arguments", sa.JSON, nullable=False),
    sa.Column("reason", sa.String(255), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("delivered_at", UtcTime),
    sa.Column("finished_at", UtcTime),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("result", sa.JSON(none_as_null=True)),
    sa.Index(None, "agent_id", "status"),
)

"""What operators decided: policies, who they are for, how far a rollout has come, what is not alerted on."""

from __future__ import annotations

import sqlalchemy as sa

from eguard.fleet.tables.columns import UtcTime, exact_text, metadata

#: Counters that only rise, one row each: ``policy_revision``, ``whitelist_revision``.
server_counter = sa.Table(
    "server_counter",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

#: Every revision of every policy. `mode_revision` is the revision at which `baseline_mode` was last asked for: a stage
#: of a rollout makes a new revision and must not have every agent learn anew.
policy = sa.Table(
    "policy",
    metadata,
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("policy_id", exact_text(64), nullable=False),
    sa.Column("policy_version", exact_text(64), nullable=False),
    sa.Column("rollout_id", exact_text(64), nullable=False),
    sa.Column("mode_revision", sa.BigInteger, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("reason", sa.String(255), nullable=False),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Index(None, "policy_id", "revision"),
)

#: `scope` is ``agent`` or ``group``. A withdrawn assignment keeps its row, without a policy and with a new revision.
policy_assignment = sa.Table(
    "policy_assignment",
    metadata,
    sa.Column("scope", sa.String(8), primary_key=True),
    sa.Column("scope_id", exact_text(128), primary_key=True),
    sa.Column("policy_id", exact_text(64)),
    sa.Column("policy_version", exact_text(64)),
    sa.Column("revision", sa.BigInteger, nullable=False, index=True),
    sa.Column("assigned_by", sa.String(128), nullable=False),
    sa.Column("assigned_at", UtcTime, nullable=False),
)

rollout = sa.Table(
    "rollout",
    metadata,
    sa.Column("rollout_id", exact_text(64), primary_key=True),
    sa.Column("policy_id", exact_text(64), nullable=False),
    sa.Column("stage_percent", sa.Double, nullable=False),
    sa.Column("stage_since", UtcTime, nullable=False),
    sa.Column("frozen_at", UtcTime),
    sa.Column("frozen_by", sa.String(128)),
    sa.Column("frozen_reason", sa.String(255)),
)

#: `kind` is process_key, hash, domain, ip or rule; `scope` is fleet, group or agent.
endpoint_whitelist = sa.Table(
    "endpoint_whitelist",
    metadata,
    sa.Column("entry_id", sa.String(32), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("value", exact_text(512), nullable=False),
    sa.Column("scope", sa.String(8), nullable=False),
    sa.Column("scope_id", exact_text(128), nullable=False),
    sa.Column("reason", sa.String(255), nullable=False),
    sa.Column("created_by", sa.String(128), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime),
)

#: Ed25519 keys that sign policies; the private half lies in the server's key folder. A new key is announced in policies
#: that the old one signs, and takes over at `active_from`.
policy_key = sa.Table(
    "policy_key",
    metadata,
    sa.Column("key_id", sa.String(64), primary_key=True),
    sa.Column("public_key", sa.String(64), nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("active_from", UtcTime, nullable=False),
    sa.Column("retired_at", UtcTime),
)

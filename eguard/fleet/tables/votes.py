"""What an incremental aggregation remembers: whose votes counted, what became of each key, and which keys changed."""

from __future__ import annotations

import sqlalchemy as sa

from eguard.fleet.tables.columns import UtcTime, agent_id_type, metadata, process_key_type

#: Keys with a vote that changed, under the epoch in which it did: see `eguard.fleet.changes`.
fleet_changed_key = sa.Table(
    "fleet_changed_key",
    metadata,
    sa.Column("process_key", process_key_type(), primary_key=True),
    sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
)

#: Agents that could vote in the latest aggregation. No foreign key: an agent that was removed since must be missed.
fleet_voter = sa.Table(
    "fleet_voter",
    metadata,
    sa.Column("agent_id", agent_id_type(), primary_key=True),
    sa.Column("enrolled_at", UtcTime, nullable=False),
    sa.Column("enrolled_with", sa.String(32)),
)

#: Every key with votes in the latest aggregation. `withheld` says why it is not published, NULL if it is. None of its
#: votes expires before `next_expiry`.
fleet_key_votes = sa.Table(
    "fleet_key_votes",
    metadata,
    sa.Column("process_key", process_key_type(), primary_key=True),
    sa.Column("votes", sa.Integer, nullable=False),
    sa.Column("votes_below_min_samples", sa.Integer, nullable=False),
    sa.Column("votes_beyond_token_share", sa.Integer, nullable=False),
    sa.Column("withheld", sa.String(16)),
    sa.Column("next_expiry", UtcTime, nullable=False),
)

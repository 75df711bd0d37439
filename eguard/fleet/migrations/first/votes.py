"""What an incremental aggregation remembers, as the first migration makes it. Frozen: a change is a later migration."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.migrations.building import FrozenTable, exact, moment

TABLES: Final = (
    FrozenTable(
        "fleet_changed_key",
        (
            sa.Column("process_key", exact(512), nullable=False),
            sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
            sa.PrimaryKeyConstraint("process_key", "epoch", name="pk_fleet_changed_key"),
        ),
        {},
    ),
    FrozenTable(
        "fleet_voter",
        (
            sa.Column("agent_id", exact(128), nullable=False),
            sa.Column("enrolled_at", moment(), nullable=False),
            sa.Column("enrolled_with", sa.String(32)),
            sa.PrimaryKeyConstraint("agent_id", name="pk_fleet_voter"),
        ),
        {},
    ),
    FrozenTable(
        "fleet_key_votes",
        (
            sa.Column("process_key", exact(512), nullable=False),
            sa.Column("votes", sa.Integer(), nullable=False),
            sa.Column("votes_below_min_samples", sa.Integer(), nullable=False),
            sa.Column("votes_beyond_token_share", sa.Integer(), nullable=False),
            sa.Column("withheld", sa.String(16)),
            sa.Column("next_expiry", moment(), nullable=False),
            sa.PrimaryKeyConstraint("process_key", name="pk_fleet_key_votes"),
        ),
        {},
    ),
)

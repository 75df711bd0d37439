"""Models on their way to agents, as the first migration makes them. Frozen: a change is a later migration."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.migrations.building import FrozenTable, moment

TABLES: Final = (
    FrozenTable(
        "ml_candidate",
        (
            sa.Column("candidate_id", sa.String(16), nullable=False),
            sa.Column("digest", sa.String(64), nullable=False),
            sa.Column("model_version", sa.String(128), nullable=False),
            sa.Column("contract_hash", sa.String(64), nullable=False),
            sa.Column("source", sa.String(16), nullable=False),
            sa.Column("run_id", sa.String(64)),
            sa.Column("gates_passed", sa.Boolean(), nullable=False),
            sa.Column("gates", sa.JSON(), nullable=False),
            sa.Column("files", sa.JSON(), nullable=False),
            sa.Column("registered_at", moment(), nullable=False),
            sa.Column("registered_by", sa.String(128), nullable=False),
            sa.Column("stage", sa.String(16), nullable=False),
            sa.Column("percent", sa.Double(), nullable=False),
            sa.Column("stage_since", moment(), nullable=False),
            sa.Column("stage_by", sa.String(128), nullable=False),
            sa.Column("reason", sa.String(255), nullable=False),
            sa.Column("looks", sa.Integer(), nullable=False),
            sa.Column("stable_at", moment()),
            sa.Column("versions", sa.JSON()),
            sa.PrimaryKeyConstraint("candidate_id", name="pk_ml_candidate"),
            sa.UniqueConstraint("digest", name="uq_ml_candidate_digest"),
        ),
        {
            "ix_ml_candidate_registered_at": ("registered_at",),
            "ix_ml_candidate_stage": ("stage",),
        },
    ),
)

"""Models on their way to agents: every candidate, where it is, and what was decided about it."""

from __future__ import annotations

import sqlalchemy as sa

from eguard.fleet.tables.columns import UtcTime, metadata

#: `candidate_id` is the beginning of `digest`, the SHA-256 of the bundle's manifest. `stage` is ``refused`` (it cannot
#: be used), ``registered``, ``shadow``, ``canary`` (at `percent`), ``stable``, ``halted``, ``withdrawn`` or
#: ``superseded``. `source` is ``nightly`` or ``published``. `looks` counts the tests of the alert rate in this stage.
ml_candidate = sa.Table(
    "ml_candidate",
    metadata,
    sa.Column("candidate_id", sa.String(16), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("model_version", sa.String(128), nullable=False),
    sa.Column("contract_hash", sa.String(64), nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("run_id", sa.String(64)),
    sa.Column("gates_passed", sa.Boolean, nullable=False),
    sa.Column("gates", sa.JSON, nullable=False),
    sa.Column("files", sa.JSON, nullable=False),
    sa.Column("registered_at", UtcTime, nullable=False, index=True),
    sa.Column("registered_by", sa.String(128), nullable=False),
    sa.Column("stage", sa.String(16), nullable=False, index=True),
    sa.Column("percent", sa.Double, nullable=False),
    sa.Column("stage_since", UtcTime, nullable=False),
    sa.Column("stage_by", sa.String(128), nullable=False),
    sa.Column("reason", sa.String(255), nullable=False),
    sa.Column("looks", sa.Integer, nullable=False),
    sa.Column("stable_at", UtcTime),
    sa.Column("versions", sa.JSON(none_as_null=True)),
)

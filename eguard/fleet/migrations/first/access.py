"""Accounts, tokens and the audit log, as the first migration makes them. Frozen: a change is a later migration."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.migrations.building import FrozenTable, exact, moment

TABLES: Final = (
    FrozenTable(
        "user_account",
        (
            sa.Column("name", exact(128), nullable=False),
            sa.Column("role", sa.String(16), nullable=False),
            sa.Column("password_hash", sa.String(255), nullable=False),
            sa.Column("failures", sa.Integer(), nullable=False),
            sa.Column("locked_until", moment()),
            sa.Column("created_at", moment(), nullable=False),
            sa.Column("disabled_at", moment()),
            sa.PrimaryKeyConstraint("name", name="pk_user_account"),
        ),
        {},
    ),
    FrozenTable(
        "user_session",
        (
            sa.Column("session_hash", sa.String(64), nullable=False),
            sa.Column("name", exact(128), nullable=False),
            sa.Column("csrf_token", sa.String(64), nullable=False),
            sa.Column("created_at", moment(), nullable=False),
            sa.Column("last_used_at", moment(), nullable=False),
            sa.Column("expires_at", moment(), nullable=False),
            sa.PrimaryKeyConstraint("session_hash", name="pk_user_session"),
            sa.ForeignKeyConstraint(
                ["name"], ["user_account.name"], name="fk_user_session_name_user_account", ondelete="CASCADE"
            ),
        ),
        {},
    ),
    FrozenTable(
        "access_token",
        (
            sa.Column("token_id", sa.String(32), nullable=False),
            sa.Column("token_hash", sa.String(64), nullable=False),
            sa.Column("name", exact(128), nullable=False),
            sa.Column("role", sa.String(16), nullable=False),
            sa.Column("created_by", sa.String(128), nullable=False),
            sa.Column("created_at", moment(), nullable=False),
            sa.Column("expires_at", moment(), nullable=False),
            sa.Column("revoked_at", moment()),
            sa.PrimaryKeyConstraint("token_id", name="pk_access_token"),
            sa.UniqueConstraint("token_hash", name="uq_access_token_token_hash"),
        ),
        {},
    ),
    FrozenTable(
        "audit_log",
        (
            sa.Column("sequence", sa.BigInteger(), nullable=False, autoincrement=False),
            sa.Column("at", moment(), nullable=False),
            sa.Column("principal", exact(160), nullable=False),
            sa.Column("role", sa.String(16), nullable=False),
            sa.Column("action", sa.String(64), nullable=False),
            sa.Column("object_type", sa.String(32), nullable=False),
            sa.Column("object_id", exact(160), nullable=False),
            sa.Column("detail", sa.JSON(), nullable=False),
            sa.Column("address", sa.String(64), nullable=False),
            sa.Column("credential", sa.String(64), nullable=False),
            sa.Column("previous_hash", sa.String(64), nullable=False),
            sa.Column("record_hash", sa.String(64), nullable=False),
            sa.PrimaryKeyConstraint("sequence", name="pk_audit_log"),
        ),
        {
            "ix_audit_log_action": ("action",),
            "ix_audit_log_at": ("at",),
        },
    ),
)

"""Make all tables, the policy `default` and the counters; take over the rows of a database from before migrations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

from eguard.fleet.migrations.adoption import restore_rows, set_aside
from eguard.fleet.migrations.building import create_tables, drop_tables, exact, insert_missing, moment, now
from eguard.fleet.migrations.first import TABLES

revision: Final = "0001"
down_revision: Final = None
branch_labels: Final = None
depends_on: Final = None

#: It says nothing: what an agent's own settings say holds until an operator decides.
_DEFAULT_POLICY: Final[dict[str, Any]] = {}
_POLICY_COLUMNS: Final = {
    "revision": sa.BigInteger(),
    "policy_id": exact(64),
    "policy_version": exact(64),
    "rollout_id": exact(64),
    "mode_revision": sa.BigInteger(),
    "document": sa.JSON(),
    "reason": sa.String(255),
    "created_by": sa.String(128),
    "created_at": moment(),
}


def upgrade() -> None:
    """Make everything that is missing."""
    earlier = set_aside()
    create_tables(TABLES)
    restore_rows(earlier)
    policy = {
        "revision": 1,
        "policy_id": "default",
        "policy_version": "v1",
        "rollout_id": "default",
        "mode_revision": 0,  # it asks for no mode
        "document": _DEFAULT_POLICY,
        "reason": "What holds where no other policy is assigned",
        "created_by": "migration",
        "created_at": datetime.fromtimestamp(now(), UTC).replace(tzinfo=None),
    }
    insert_missing("policy", "revision", [policy], _POLICY_COLUMNS)
    published = op.get_bind().exec_driver_sql("SELECT COALESCE(MAX(generation), 0) FROM fleet_generation").scalar_one()
    # The default policy has taken the first revision.
    values = {"policy_revision": 1, "whitelist_revision": 0, "audit": 0, "fleet_generation": published, "vote_epoch": 0}
    counters = [{"name": name, "value": value} for name, value in values.items()]
    insert_missing("server_counter", "name", counters, {"name": sa.String(32), "value": sa.BigInteger()})


def downgrade() -> None:
    """Remove everything: there was nothing before."""
    drop_tables(TABLES)

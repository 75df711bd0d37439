"""What servers counted, by time, and how the alert rules on it stand."""

from __future__ import annotations

import sqlalchemy as sa

from eguard.fleet.tables.columns import UtcTime, metadata

#: What one server counted of `name` in the five minutes from `bucket_at`; servers on one database are added up.
signal_count = sa.Table(
    "signal_count",
    metadata,
    sa.Column("bucket_at", UtcTime, primary_key=True),
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("server_id", sa.String(64), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

#: How each rule stood at its last look. `state` is ``ok``, ``alert`` or ``unknown``; `since` is when it became so;
#: `fine_since` is since when an alert's numbers have been inside their bound; `numbers` are what it was judged by.
alert_state = sa.Table(
    "alert_state",
    metadata,
    sa.Column("rule", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("since", UtcTime, nullable=False),
    sa.Column("looked_at", UtcTime, nullable=False),
    sa.Column("fine_since", UtcTime),
    sa.Column("numbers", sa.JSON, nullable=False),
)

#: Scores of calibration rows under a model that was in service, by its digest; the one that was loaded last is now.
#: `scores`, `times` and `hosts` are lists of equal length, null until rows are enough; `health` is the last check.
calibration_reference = sa.Table(
    "calibration_reference",
    metadata,
    sa.Column("model_digest", sa.String(64), primary_key=True),
    sa.Column("model_version", sa.String(128), nullable=False),
    sa.Column("calibration_digest", sa.String(64), nullable=False),
    sa.Column("contract_hash", sa.String(64), nullable=False),
    sa.Column("alpha", sa.Double, nullable=False),
    sa.Column("loaded_at", UtcTime, nullable=False),
    sa.Column("computed_at", UtcTime),
    sa.Column("scores", sa.JSON(none_as_null=True)),
    sa.Column("times", sa.JSON(none_as_null=True)),
    sa.Column("hosts", sa.JSON(none_as_null=True)),
    sa.Column("thresholds", sa.JSON(none_as_null=True)),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("checked_at", UtcTime),
    sa.Column("health", sa.JSON(none_as_null=True)),
)

"""Drift of the fleet's baseline: what the detectors know of every series, and the alarms that they raised."""

from __future__ import annotations

import sqlalchemy as sa

from eguard.fleet.tables.columns import UtcTime, long_bytes, long_text, metadata, process_key_type

#: One row a series of the whole fleet, `state` as JSON; `generation` is the last one in it.
fleet_drift_series = sa.Table(
    "fleet_drift_series",
    metadata,
    sa.Column("series", sa.String(32), primary_key=True),
    sa.Column("compared_with", sa.String(16), primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("state", long_text(65_536), nullable=False),
)

#: The series of single process keys, many to a row: `process_keys` is a JSON list, `state` holds as many rows of
#: little-endian float64, in the layout that `version` stands for.
fleet_drift_block = sa.Table(
    "fleet_drift_block",
    metadata,
    sa.Column("block", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("version", sa.SmallInteger, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("process_keys", long_text(1 << 20), nullable=False),
    sa.Column("state", long_bytes(), nullable=False),
)

#: `kind` is ``cusum``, ``rank_adwin``, ``adwin`` or ``js_level``; `series` is ``fleet`` or a process key;
#: `compared_with` is ``previous`` or ``reference``; `resolution` is ``organic`` or ``adversarial`` once it is resolved.
#: At most one alarm of a kind, series and comparison is open.
fleet_alarm = sa.Table(
    "fleet_alarm",
    metadata,
    sa.Column("alarm_id", sa.String(32), primary_key=True),
    sa.Column("raised_at", UtcTime, nullable=False, index=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("series", process_key_type(), nullable=False),
    sa.Column("compared_with", sa.String(16), nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("threshold", sa.Double, nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Column("resolved_at", UtcTime, index=True),
    sa.Column("resolved_by", sa.String(128)),
    sa.Column("resolution", sa.String(16)),
)

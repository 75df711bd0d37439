"""Every table of the first migration, those that others refer to first."""

from typing import Final

from eguard.fleet.migrations.building import FrozenTable
from eguard.fleet.migrations.first import (
    access,
    alarms,
    analysis,
    baselines,
    candidates,
    control,
    endpoints,
    notifications,
    signals,
    upkeep,
    votes,
)

TABLES: Final[tuple[FrozenTable, ...]] = (
    *endpoints.TABLES,
    *baselines.TABLES,
    *control.TABLES,
    *analysis.TABLES,
    *access.TABLES,
    *upkeep.TABLES,
    *alarms.TABLES,
    *notifications.TABLES,
    *signals.TABLES,
    *votes.TABLES,
    *candidates.TABLES,
)

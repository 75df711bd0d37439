"""The task that turns profiles into the fleet's baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eguard.server.principal import SYSTEM
from eguard.server.tasks.task import Progress

if TYPE_CHECKING:
    from eguard.server.context import ServerContext


def aggregate_fleet(context: ServerContext, progress: Progress) -> dict[str, Any]:
    """Aggregate once, with the server's settings."""
    report = context.fleet.aggregate(SYSTEM, progress=progress)
    context.metrics.count_aggregation(report)
    return report.to_dict()

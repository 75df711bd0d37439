"""The task that turns profiles into the fleet's baseline."""

from __future__ import annotations

from typing import Any

from eguard.server.context import ServerContext
from eguard.server.principal import SYSTEM
from eguard.server.tasks.task import Progress


def aggregate_fleet(context: ServerContext, progress: Progress) -> dict[str, Any]:
    """Aggregate once, with the server's settings."""
    report = context.fleet.aggregate(SYSTEM, progress=progress)
    if context.metrics is not None:
        context.metrics.count_aggregation(report)
    detail: dict[str, Any] = report.to_dict()
    return detail

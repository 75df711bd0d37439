"""The task that forgets what is older than the settings keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eguard.fleet.retention import Retention, purge
from eguard.server.principal import SYSTEM
from eguard.server.tasks.task import Progress

if TYPE_CHECKING:
    from eguard.server.context import ServerContext

_DAY_SECONDS: Final = 86_400.0


def remove_what_is_old(context: ServerContext, progress: Progress) -> dict[str, Any]:
    """Remove old rows of every kind; the audit log says in a record of its own what it lost."""
    settings, now = context.settings, context.clock.now()
    keep = Retention(
        events_days=settings.retention_events_days,
        alerts_days=settings.retention_alerts_days,
        health_days=settings.retention_health_days,
        calibration_days=settings.retention_calibration_days,
    )
    removed = purge(context.database, now, keep, progress)
    removed["audit"] = context.audit.prune(SYSTEM, now - settings.retention_audit_days * _DAY_SECONDS)
    return {"removed": removed}

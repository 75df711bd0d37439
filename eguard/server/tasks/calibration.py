"""The task that calibrates the served model on what agents drew, and compares each day's scores with that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eguard.server.tasks.task import Progress

if TYPE_CHECKING:
    from eguard.server.context import ServerContext


def look_at_calibration(context: ServerContext, progress: Progress) -> dict[str, Any]:
    """Recalibrate if another model is served, and check the scores if an hour is over."""
    progress("calibration", 0, 1)
    return context.calibrations.look()

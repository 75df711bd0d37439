"""The task that judges the alert rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eguard.server.tasks.task import Progress

if TYPE_CHECKING:
    from eguard.server.context import ServerContext


def judge_signals(context: ServerContext, progress: Progress) -> dict[str, Any]:
    """Measure the signals once and tell operators of alerts that begin or end."""
    progress("signals", 0, 1)
    return {"states": context.alerts.look()}

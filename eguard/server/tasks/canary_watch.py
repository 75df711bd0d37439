"""The task that watches candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eguard.server.tasks.task import Progress

if TYPE_CHECKING:
    from eguard.server.context import ServerContext


def watch_candidates(context: ServerContext, progress: Progress) -> dict[str, Any]:
    """Judge the candidate that agents have, halt it if it does harm, and register what the last night left."""
    progress("watch", 0, 1)
    return context.canary_watch.look()

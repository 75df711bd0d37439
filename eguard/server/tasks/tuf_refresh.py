"""The task that keeps the bundle repository fresh."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eguard.bundle.online import refresh_repository
from eguard.server.tasks.task import Progress

if TYPE_CHECKING:
    from eguard.server.context import ServerContext


def refresh_bundles(context: ServerContext, progress: Progress) -> dict[str, Any]:
    """Sign snapshot and timestamp of the served repository with the server's online keys."""
    settings = context.settings
    if not (settings.repository / "metadata" / "timestamp.json").exists():
        return {"skipped": f"there is no bundle repository in {settings.repository}"}
    progress("sign", 0, 1)
    now = datetime.fromtimestamp(context.clock.now(), UTC)
    return refresh_repository(settings.repository, settings.server_state_path / "keys", now=now)

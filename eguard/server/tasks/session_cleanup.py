"""The task that clears away what ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from eguard.fleet.tables import user_session
from eguard.server.services.commands import expire_commands
from eguard.server.tasks.task import Progress

if TYPE_CHECKING:
    from eguard.server.context import ServerContext


def clean_up(context: ServerContext, progress: Progress) -> dict[str, Any]:
    """Remove sessions that ended and mark commands whose time is over."""
    now = context.clock.now()

    def remove(connection: sa.Connection) -> dict[str, Any]:
        is_over = user_session.c.expires_at <= now
        removed = connection.execute(sa.delete(user_session).where(is_over)).rowcount
        return {"sessions_removed": int(removed), "commands_expired": expire_commands(connection, now)}

    progress("sessions", 0, 1)
    return context.database.retrying(remove, is_idempotent=True)

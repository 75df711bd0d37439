"""The task that sends operators what is in the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eguard.server.tasks.task import Progress

if TYPE_CHECKING:
    from eguard.server.context import ServerContext


def has_messages(context: ServerContext) -> bool:
    """Tell whether a message is due."""
    return context.delivery.is_wanted()


def send_messages(context: ServerContext, progress: Progress) -> dict[str, Any]:
    """Send what is due to every sink."""
    return context.delivery.deliver(progress)

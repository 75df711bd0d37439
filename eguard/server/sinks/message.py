"""A message to operators, and what takes it away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Parameters
    ----------
    notification_id : str
        The same for every copy: receivers tell a second one by it.
    kind, severity, title : str
        What happened, how bad it is, and one sentence.
    detail : mapping
        Facts that JSON can hold.
    created_at : float
        Seconds since the epoch.
    """

    notification_id: str
    kind: str
    severity: str
    title: str
    detail: Mapping[str, Any]
    created_at: float


class Sink(Protocol):
    """Somewhere that messages are sent to."""

    @property
    def name(self) -> str:
        """``webhook`` or ``syslog``."""

    @property
    def address(self) -> str:
        """Where it is, without what only the receiver should know."""

    def send(self, message: Message, now: float) -> None:
        """Send a message; when this returns, the receiver has it as far as its protocol can tell.

        Raises
        ------
        NotificationError
            It may not have it.
        """

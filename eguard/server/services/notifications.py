"""What operators are told: put into the outbox in the transaction that found it, delivered by whoever runs the task.

A message is committed together with what it tells of, or not at all. It goes to every sink that is set up when it is
dispatched, at least once each; receivers tell a second copy by its id.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from eguard.fleet.tables import notification

#: How bad it is: ``info`` is good news or a test, ``warning`` wants a look, ``critical`` wants one now.
SEVERITIES: Final = ("info", "warning", "critical")
_MAX_KIND_CHARACTERS: Final = 64
_MAX_TITLE_CHARACTERS: Final = 255


def notify(
    connection: sa.Connection, *, kind: str, severity: str, title: str, detail: Mapping[str, Any], now: float
) -> str:
    """Put a message into the outbox, in the caller's transaction, and return its id.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of a write transaction.
    kind : str
        What happened, as receivers filter by: ``fleet_drift``, ``alert``.
    severity : str
        One of `SEVERITIES`.
    title : str
        One sentence for people.
    detail : mapping
        Facts that JSON can hold; no secrets. Numbers that JSON has no form for become null.
    now : float
        Seconds since the epoch.

    Raises
    ------
    ValueError
        The severity is none, or the kind is empty or too long.
    """
    if severity not in SEVERITIES or not 0 < len(kind) <= _MAX_KIND_CHARACTERS:
        raise ValueError(f"no notification: kind {kind!r}, severity {severity!r}")
    notification_id = secrets.token_hex(16)
    connection.execute(
        sa.insert(notification).values(
            notification_id=notification_id,
            kind=kind,
            severity=severity,
            title=title[:_MAX_TITLE_CHARACTERS],
            detail=_finite(dict(detail)),
            created_at=now,
        )
    )
    return notification_id


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

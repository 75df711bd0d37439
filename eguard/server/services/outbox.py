"""What is in the outbox, for people."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from eguard.fleet.database import Database
from eguard.fleet.tables import notification, notification_delivery

_message = notification.c
_delivery = notification_delivery.c


def outbox(database: Database, limit: int) -> list[dict[str, Any]]:
    """Return the latest messages, newest first, each with what became of it at every sink."""
    with database.read() as connection:
        query = sa.select(notification).order_by(_message.created_at.desc(), _message.notification_id)
        rows = connection.execute(query.limit(limit)).all()
        chosen = _delivery.notification_id.in_([row.notification_id for row in rows])
        deliveries = connection.execute(sa.select(notification_delivery).where(chosen).order_by(_delivery.sink)).all()
    by_message: dict[str, list[dict[str, Any]]] = {row.notification_id: [] for row in rows}
    for row in deliveries:
        by_message[row.notification_id].append(
            {
                "sink": row.sink,
                "status": row.status,
                "attempts": row.attempts,
                "next_attempt_unix": row.next_attempt_at if row.status == "waiting" else None,
                "delivered_at_unix": row.delivered_at,
                "last_error": row.last_error,
            }
        )
    return [
        {
            "notification_id": row.notification_id,
            "kind": row.kind,
            "severity": row.severity,
            "title": row.title,
            "detail": row.detail,
            "created_at_unix": row.created_at,
            "dispatched_at_unix": row.dispatched_at,
            "deliveries": by_message[row.notification_id],
        }
        for row in rows
    ]

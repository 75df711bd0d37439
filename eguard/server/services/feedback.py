"""What analysts say of alerts: written once, never changed; the latest verdict counts, disagreement stays visible."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Final, Literal

import sqlalchemy as sa
from msgspec import Meta, Struct

from eguard.clock import Clock, SystemClock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import alert_feedback, endpoint_event
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.wire.baseline import WireName

Verdict = Literal["true_positive", "false_positive", "benign"]
#: Verdicts that one event takes; beyond it, something is writing in a circle.
MAX_VERDICTS: Final = 1000
_NOTE_IN_AUDIT: Final = 200


class FeedbackRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verdict on an event, with a note for whoever reads it later."""

    event_id: WireName
    verdict: Verdict
    note: Annotated[str, Meta(max_length=4000)] = ""


class Feedback:
    """Verdicts of analysts.

    Parameters
    ----------
    database : Database
        The fleet's database.
    clock : Clock, optional
        Dates the verdicts.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()

    def add(self, principal: Principal, request: FeedbackRequest) -> dict[str, Any]:
        """Write a verdict down and return all that is now said of the event.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_event``; 409 ``too_many_verdicts``.
        """
        now = self._clock.now()

        def write_down(connection: sa.Connection) -> dict[str, Any]:
            event = sa.select(endpoint_event.c.event_id).where(endpoint_event.c.event_id == request.event_id)
            if connection.execute(event.with_for_update()).first() is None:
                raise ServerRefusalError(404, "unknown_event", f"there is no event {request.event_id}")
            before = _history(connection, request.event_id)
            if len(before) >= MAX_VERDICTS:
                raise ServerRefusalError(409, "too_many_verdicts", f"the event has {MAX_VERDICTS} verdicts already")
            # Verdicts are in the order of their times; a clock set back must not put the later one first.
            created_at = max(now, before[-1]["created_at_unix"] + 1e-6) if before else now
            row = {
                "feedback_id": secrets.token_hex(8),
                "event_id": request.event_id,
                "verdict": request.verdict,
                "analyst": principal.name[:128],
                "note": request.note,
                "created_at": created_at,
            }
            connection.execute(sa.insert(alert_feedback).values(**row))
            audit.record(
                connection,
                principal,
                action="feedback.create",
                object_type="event",
                object_id=request.event_id,
                detail={"verdict": request.verdict, "note": request.note[:_NOTE_IN_AUDIT]},
                now=now,
            )
            return {"feedback_id": row["feedback_id"], **verdicts(connection, request.event_id)}

        return self._database.retrying(write_down)

    def verdicts(self, event_id: str) -> dict[str, Any]:
        """Return what analysts say of an event; see `verdicts`."""
        with self._database.read() as connection:
            return verdicts(connection, event_id)


def verdicts(connection: sa.Connection, event_id: str) -> dict[str, Any]:
    """Return what analysts say of an event.

    Returns
    -------
    dict
        `verdict` is the latest or None, `is_disputed` whether the latest verdicts of two analysts differ, and
        `history` every verdict, oldest first.
    """
    history = _history(connection, event_id)
    latest = {said["analyst"]: said["verdict"] for said in history}
    return {
        "event_id": event_id,
        "verdict": history[-1]["verdict"] if history else None,
        "is_disputed": len(set(latest.values())) > 1,
        "history": history,
    }


def _history(connection: sa.Connection, event_id: str) -> list[dict[str, Any]]:
    column = alert_feedback.c
    query = sa.select(alert_feedback).where(column.event_id == event_id)
    rows = connection.execute(query.order_by(column.created_at, column.feedback_id))
    return [
        {
            "feedback_id": row.feedback_id,
            "verdict": row.verdict,
            "analyst": row.analyst,
            "note": row.note,
            "created_at_unix": row.created_at,
        }
        for row in rows
    ]

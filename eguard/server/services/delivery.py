"""Messages to operators on their way out: at least once to each sink, in order, for up to seven days.

A message is marked as delivered after it was sent, in a transaction of its own. Who is killed between the two sends it
again, with the same id: receivers drop what they have seen. One server delivers at a time, which the lease of the task
sees to.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import sqlalchemy as sa
import structlog

from eguard.clock import Clock
from eguard.errors import NotificationError
from eguard.fleet.database import Database
from eguard.fleet.tables import notification, notification_delivery
from eguard.fleet.upsert import upsert
from eguard.server.sinks import Message, Sink

#: How long a message is tried.
GIVE_UP_SECONDS: Final = 7 * 86_400.0
FIRST_RETRY_SECONDS: Final = 5.0
MAX_RETRY_SECONDS: Final = 3600.0
#: Share by which a wait is spread, so that servers and sinks that failed together do not come back together.
JITTER: Final = 0.2
WAITING: Final = "waiting"
DELIVERED: Final = "delivered"
GIVEN_UP: Final = "given_up"
#: Messages that one run dispatches, and sends to a sink, at most.
BATCH: Final = 500

_MAX_ERROR_CHARACTERS: Final = 255
_message = notification.c
_delivery = notification_delivery.c
_log = structlog.get_logger("eguard.server")

Progress = Callable[[str, int, int], None]
Count = Callable[[str, str], None]


def retry_seconds(attempts: int, spread: float) -> float:
    """Return the wait after so many failures: 5 s, doubled each time up to an hour, spread by a fifth.

    Parameters
    ----------
    attempts : int
        Failures so far, at least 1.
    spread : float
        Between 0 and 1, drawn at random.

    Examples
    --------
    >>> [retry_seconds(n, 0.5) for n in (1, 2, 5, 11, 1000)]
    [5.0, 10.0, 80.0, 3600.0, 3600.0]
    >>> retry_seconds(1, 0.0), retry_seconds(1, 1.0)
    (4.0, 6.0)
    """
    exponent = min(attempts - 1, 20)
    wait = min(FIRST_RETRY_SECONDS * 2.0**exponent, MAX_RETRY_SECONDS)
    return wait * (1.0 + JITTER * (2.0 * spread - 1.0))


class Delivery:
    """Sends what is in the outbox.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        For what is due.
    sinks : iterable of Sink
        Where messages go.
    count : callable, optional
        Called with a sink and ``delivered``, ``failed`` or ``given_up``.
    """

    def __init__(
        self, database: Database, clock: Clock, sinks: Iterable[Sink], count: Count = lambda _sink, _outcome: None
    ) -> None:
        self._database = database
        self._clock = clock
        self.sinks = tuple(sinks)
        self._count = count

    def is_wanted(self) -> bool:
        """Tell whether there is a message that nobody dispatched, or one that is due."""
        names = [sink.name for sink in self.sinks]
        new = sa.select(sa.literal(1)).where(_message.dispatched_at.is_(None)).limit(1)
        due = sa.select(sa.literal(1)).where(
            _delivery.status == WAITING, _delivery.next_attempt_at <= self._clock.now(), _delivery.sink.in_(names)
        )
        with self._database.read() as connection:
            return any(connection.execute(query.limit(1)).first() is not None for query in (new, due))

    def deliver(self, progress: Progress) -> dict[str, Any]:
        """Dispatch what is new and send what is due; one sink that hangs does not hold up the other.

        Raises
        ------
        FleetStoreError
            The database refused; what was sent and could not be marked is sent again.
        """
        dispatched = self._dispatch()
        given_up = self._give_up()
        if not self.sinks:
            return {"dispatched": dispatched, "given_up": given_up, "sinks": {}}
        with ThreadPoolExecutor(len(self.sinks), thread_name_prefix="notify") as threads:
            outcomes = list(threads.map(lambda sink: self._drain(sink, progress), self.sinks))
        return {
            "dispatched": dispatched,
            "given_up": given_up,
            "sinks": {sink.name: outcome for sink, outcome in zip(self.sinks, outcomes, strict=True)},
        }

    def _dispatch(self) -> int:
        """Make a delivery for each sink of each new message; the log has every message, sinks or none."""
        now = self._clock.now()

        def dispatch(connection: sa.Connection) -> list[Any]:
            query = sa.select(notification).where(_message.dispatched_at.is_(None))
            rows = connection.execute(query.order_by(_message.created_at).limit(BATCH).with_for_update()).all()
            values = [
                {
                    "notification_id": row.notification_id,
                    "sink": sink.name,
                    "status": WAITING,
                    "attempts": 0,
                    "next_attempt_at": now,
                }
                for row in rows
                for sink in self.sinks
            ]
            if values:
                connection.execute(upsert(notification_delivery, ["notification_id", "sink"], update=[]), values)
            if rows:
                chosen = _message.notification_id.in_([row.notification_id for row in rows])
                connection.execute(sa.update(notification).where(chosen).values(dispatched_at=now))
            return list(rows)

        rows = self._database.retrying(dispatch, is_idempotent=True)
        for row in rows:
            told = _log.info if row.severity == "info" else _log.warning
            told("operators are told", kind=row.kind, severity=row.severity, title=row.title, id=row.notification_id)
        return len(rows)

    def _give_up(self) -> int:
        """Stop trying messages that are too old, those for sinks that are no longer set up as well."""
        oldest = self._clock.now() - GIVE_UP_SECONDS
        is_old = sa.select(_message.notification_id).where(_message.created_at < oldest)

        def give_up(connection: sa.Connection) -> list[Any]:
            query = sa.select(notification_delivery).where(
                _delivery.status == WAITING, _delivery.notification_id.in_(is_old)
            )
            rows = connection.execute(query.with_for_update()).all()
            for row in rows:
                connection.execute(_is(row.notification_id, row.sink).values(status=GIVEN_UP))
            return list(rows)

        rows = self._database.retrying(give_up)
        for row in rows:
            self._count(row.sink, GIVEN_UP)
            _log.error(
                "a notification was given up",
                id=row.notification_id,
                sink=row.sink,
                attempts=row.attempts,
                last_error=row.last_error,
            )
        return len(rows)

    def _drain(self, sink: Sink, progress: Progress) -> dict[str, int]:
        """Send a sink what is due, oldest first; one that is down is left alone until its first message is due."""
        outcome = {DELIVERED: 0, "failed": 0}
        for done in range(BATCH):
            progress(sink.name, done, BATCH)
            row = self._next(sink.name)
            if row is None:
                break
            try:
                sink.send(_message_of(row), self._clock.now())
            except NotificationError as error:
                outcome["failed"] += 1
                self._count(sink.name, "failed")
                self._postpone(row, error)
                if not error.is_about_message:
                    break
            else:
                outcome[DELIVERED] += 1
                self._count(sink.name, DELIVERED)
                self._mark(row)
        return outcome

    def _next(self, sink: str) -> Any:
        query = (
            sa.select(notification, _delivery.sink, _delivery.attempts)
            .join(notification_delivery, _delivery.notification_id == _message.notification_id)
            .where(_delivery.sink == sink, _delivery.status == WAITING, _delivery.next_attempt_at <= self._clock.now())
            .order_by(_message.created_at, _message.notification_id)
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first()

    def _mark(self, row: Any) -> None:
        values = {
            "status": DELIVERED,
            "attempts": row.attempts + 1,
            "delivered_at": self._clock.now(),
            "last_error": None,
        }
        self._database.retrying(
            lambda connection: connection.execute(_is(row.notification_id, row.sink).values(**values)),
            is_idempotent=True,
        )

    def _postpone(self, row: Any, error: NotificationError) -> None:
        """Put a message off, and with it all others for a sink that is down: they would fail the same way."""
        attempts = row.attempts + 1
        wait = retry_seconds(attempts, random.random())  # noqa: S311 - keeps servers and sinks from coming back together
        due = self._clock.now() + max(wait, error.retry_seconds or 0.0)
        words = error.message[:_MAX_ERROR_CHARACTERS]
        is_earlier = sa.and_(_delivery.sink == row.sink, _delivery.status == WAITING, _delivery.next_attempt_at < due)

        def postpone(connection: sa.Connection) -> None:
            values = {"attempts": attempts, "next_attempt_at": due, "last_error": words}
            connection.execute(_is(row.notification_id, row.sink).values(**values))
            if not error.is_about_message:
                connection.execute(sa.update(notification_delivery).where(is_earlier).values(next_attempt_at=due))

        self._database.retrying(postpone, is_idempotent=True)
        _log.warning(
            "a notification did not arrive",
            id=row.notification_id,
            sink=row.sink,
            attempts=attempts,
            error=words,
            next_attempt_unix=round(due, 3),
        )


def _is(notification_id: str, sink: str) -> sa.Update:
    return sa.update(notification_delivery).where(_delivery.notification_id == notification_id, _delivery.sink == sink)


def _message_of(row: Any) -> Message:
    return Message(row.notification_id, row.kind, row.severity, row.title, row.detail, row.created_at)

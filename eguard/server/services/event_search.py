"""Looking for alerts: incidents with their alerts, newest first, page by page; and what an analyst does with them."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
import sqlalchemy as sa
from msgspec import Meta, Struct

from eguard.clock import Clock, SystemClock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_event, incident
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.alert_rows import SEVERITIES
from eguard.server.services.feedback import verdicts
from eguard.server.services.incidents import STATUSES, SUPPRESSED

MAX_PAGE: Final = 200
#: Alerts shown of an incident, the newest ones; the incident says how many it has.
SHOWN_ALERTS: Final = 20
MAX_WORDS: Final = 8
_ESCAPE: Final = "!"

_SHOWN_COLUMNS: Final = (
    *("event_id", "incident_id", "agent_id", "observed_at", "event_class", "process_key"),
    *("rule_id", "severity", "score", "p_value", "suppressed_by"),
)

_event = endpoint_event.c
_incident = incident.c


@dataclass(frozen=True, slots=True)
class EventQuery:
    """What is looked for; an empty field takes all.

    Parameters
    ----------
    text : str
        Words that all occur in one alert, in any order, as parts of words too; case does not matter.
    severity : str
        Severities of alerts, separated by commas.
    agent_id : str
        The endpoint.
    status : str
        Statuses of incidents, separated by commas; by default all but ``suppressed``.
    """

    text: str = ""
    severity: str = ""
    agent_id: str = ""
    status: str = ""


class IncidentChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an analyst sets of an incident; what is left out stays. An empty `assignee` takes nobody."""

    status: Literal["open", "investigating", "closed"] | None = None
    assignee: Annotated[str, Meta(max_length=128, pattern=r"\A[^\x00-\x1f\x7f]*\Z")] | None = None


class EventSearch:
    """Alerts as analysts see them.

    Parameters
    ----------
    database : Database
        The fleet's database.
    clock : Clock, optional
        Dates the audit records.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()

    def page(self, query: EventQuery, *, limit: int = 50, cursor: str = "") -> dict[str, Any]:
        """Return incidents with those of their alerts that match, newest first.

        Returns
        -------
        dict
            `incidents`, each with `events` (at most `SHOWN_ALERTS`) and `matching`, the number that match; and
            `cursor` for the next page, None after the last. An incident that grows while pages are turned moves to
            the front, which a search from the start shows.

        Raises
        ------
        ServerRefusalError
            422 ``invalid_parameter``.
        """
        matches = _event_conditions(query)
        wanted = sa.select(incident).where(*_incident_conditions(query, cursor))
        if matches:
            has_match = sa.select(_event.event_id).where(_event.incident_id == _incident.incident_id, *matches)
            wanted = wanted.where(has_match.exists())
        wanted = wanted.order_by(_incident.last_at.desc(), _incident.incident_id.desc()).limit(limit + 1)
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
            found = [_shown_incident(row) for row in rows[:limit]]
            _add_events(connection, found, matches)
        last = rows[limit - 1] if len(rows) > limit else None
        return {"incidents": found, "cursor": _write_cursor(last.last_at, last.incident_id) if last else None}

    def event(self, event_id: str) -> dict[str, Any]:
        """Return an alert with everything that its agent said of it, its incident and its verdicts.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_event``.
        """
        with self._database.read() as connection:
            row = connection.execute(sa.select(endpoint_event).where(_event.event_id == event_id)).first()
            if row is None:
                raise ServerRefusalError(404, "unknown_event", f"there is no event {event_id[:128]}")
            holder = connection.execute(sa.select(incident).where(_incident.incident_id == row.incident_id)).first()
            return {
                **_shown_event(row),
                "received_at_unix": row.received_at,
                "model_version": row.model_version,
                "features": row.features,
                "detail": row.detail,
                "incident": _shown_incident(holder) if holder else None,
                "feedback": verdicts(connection, event_id),
            }

    def change_incident(self, principal: Principal, incident_id: str, change: IncidentChange) -> dict[str, Any]:
        """Set an incident's status or assignee and return the incident.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_incident``; 422 ``empty_change``.
        """
        values: dict[str, Any] = {}
        if change.status is not None:
            values["status"] = change.status
        if change.assignee is not None:
            values["assignee"] = change.assignee or None
        if not values:
            raise ServerRefusalError(422, "empty_change", "name a status or an assignee")

        def change_it(connection: sa.Connection) -> dict[str, Any]:
            matches = _incident.incident_id == incident_id
            before = connection.execute(sa.select(incident).where(matches).with_for_update()).first()
            if before is None:
                raise ServerRefusalError(404, "unknown_incident", f"there is no incident {incident_id[:64]}")
            connection.execute(sa.update(incident).where(matches).values(**values))
            audit.record(
                connection,
                principal,
                action="incident.update",
                object_type="incident",
                object_id=incident_id,
                detail={name: {"from": getattr(before, name), "to": value} for name, value in values.items()},
                now=self._clock.now(),
            )
            return _shown_incident(connection.execute(sa.select(incident).where(matches)).one())

        return self._database.retrying(change_it)


def _event_conditions(query: EventQuery) -> list[sa.ColumnElement[bool]]:
    """Return what an alert has to be to match, apart from its incident."""
    words = query.text.lower().split()
    if len(words) > MAX_WORDS:
        raise _invalid("q", f"at most {MAX_WORDS} words")
    matches: list[sa.ColumnElement[bool]] = [_event.search_text.like(_pattern(word), escape=_ESCAPE) for word in words]
    if query.severity:
        matches.append(_event.severity.in_(_listed("severity", query.severity, SEVERITIES)))
    return matches


def _incident_conditions(query: EventQuery, cursor: str) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if query.status:
        conditions.append(_incident.status.in_(_listed("status", query.status, STATUSES)))
    else:
        conditions.append(_incident.status != SUPPRESSED)
    if query.agent_id:
        conditions.append(_incident.agent_id == query.agent_id)
    if cursor:
        last_at, incident_id = _read_cursor(cursor)
        is_older = sa.and_(_incident.last_at == last_at, _incident.incident_id < incident_id)
        conditions.append(sa.or_(_incident.last_at < last_at, is_older))
    return conditions


def _add_events(connection: sa.Connection, found: list[dict[str, Any]], matches: list[sa.ColumnElement[bool]]) -> None:
    """Put the newest matching alerts into each incident."""
    by_id: dict[str, dict[str, Any]] = {shown["incident_id"]: shown for shown in found}
    if not by_id:
        return
    order = (_event.observed_at.desc(), _event.event_id.desc())
    ranked = (
        sa.select(
            *(_event[name] for name in _SHOWN_COLUMNS),
            sa.func.row_number().over(partition_by=_event.incident_id, order_by=order).label("ordinal"),
            sa.func.count().over(partition_by=_event.incident_id).label("matching"),
        )
        .where(_event.incident_id.in_(by_id), *matches)
        .subquery()
    )
    query = sa.select(ranked).where(ranked.c.ordinal <= SHOWN_ALERTS)
    for row in connection.execute(query.order_by(ranked.c.incident_id, ranked.c.ordinal)):
        holder = by_id[row.incident_id]
        holder["matching"] = row.matching
        holder["events"].append(_shown_event(row))


def _shown_event(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "event_id": row.event_id,
        "agent_id": row.agent_id,
        "incident_id": row.incident_id,
        "observed_at_unix": row.observed_at,
        "event_class": row.event_class,
        "process_key": row.process_key,
        "rule_id": row.rule_id,
        "severity": row.severity,
        "score": row.score,
        "p_value": row.p_value,
        "suppressed_by": row.suppressed_by,
    }


def _shown_incident(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "incident_id": row.incident_id,
        "agent_id": row.agent_id,
        "title": row.title,
        "severity": row.severity,
        "status": row.status,
        "assignee": row.assignee,
        "alerts": row.alerts,
        "first_at_unix": row.first_at,
        "last_at_unix": row.last_at,
        "grouped_by": row.grouping["marks"],
        "matching": 0,
        "events": [],
    }


def _pattern(word: str) -> str:
    """Return the LIKE pattern of a word that stands for itself."""
    for special in (_ESCAPE, "%", "_"):
        word = word.replace(special, _ESCAPE + special)
    return f"%{word}%"


def _listed(name: str, text: str, known: tuple[str, ...]) -> list[str]:
    values = [value.strip() for value in text.split(",")]
    unknown = [value for value in values if value not in known]
    if unknown:
        raise _invalid(name, f"{unknown[0][:40]!r} is none of {', '.join(known)}")
    return values


def _write_cursor(last_at: float, incident_id: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((last_at, incident_id))).decode()


def _read_cursor(text: str) -> tuple[float, str]:
    try:
        last_at, incident_id = msgspec.json.decode(base64.urlsafe_b64decode(text), type=tuple[float, str])
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise _invalid("cursor", "none that a page gave") from error
    if not 0.0 <= last_at <= 253_402_300_799.0:
        raise _invalid("cursor", "none that a page gave")
    return last_at, incident_id


def _invalid(field: str, detail: str) -> ServerRefusalError:
    return ServerRefusalError(422, "invalid_parameter", f"{field}: {detail}", errors=[(field, detail)])

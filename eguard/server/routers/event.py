"""Telemetry in; alerts out, as incidents, for analysts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from eguard.server.bodies import answer, body_schema, read_body
from eguard.server.context import Ctx
from eguard.server.identity import Agent, Analyst, check_claim, responses
from eguard.server.services.event_search import MAX_PAGE, EventQuery, IncidentChange
from eguard.wire.telemetry import MAX_TELEMETRY_BYTES, CalibrationBatch, TelemetryBatch

router = APIRouter(prefix="/api/v1/endpoint", tags=["event"])

EventId = Annotated[str, Path(min_length=1, max_length=128)]
IncidentId = Annotated[str, Path(min_length=1, max_length=32)]


@router.post("/telemetry", openapi_extra=body_schema(TelemetryBatch), responses=responses(413))
async def take_telemetry(request: Request, context: Ctx, principal: Agent) -> Response:
    """Take a batch of alerts: good ones are stored once, bad ones named. It is on disk when this is answered."""
    batch = await read_body(request, TelemetryBatch, MAX_TELEMETRY_BYTES)
    await check_claim(context, principal, batch.agent_id)
    taken = await context.bulk(context.events.take, principal.name, batch)
    context.metrics.count_telemetry("alert", taken)
    return answer(taken)


@router.post("/calibration", openapi_extra=body_schema(CalibrationBatch), responses=responses(413))
async def take_calibration(request: Request, context: Ctx, principal: Agent) -> Response:
    """Take a batch of calibration samples."""
    batch = await read_body(request, CalibrationBatch, MAX_TELEMETRY_BYTES)
    await check_claim(context, principal, batch.agent_id)
    taken = await context.bulk(context.events.take_samples, principal.name, batch)
    context.metrics.count_telemetry("calibration_sample", taken)
    return answer(taken)


def _event_query(
    q: Annotated[str, Query(max_length=200, description="Words that all occur in an alert.")] = "",
    severity: Annotated[str, Query(max_length=100, description="Severities, separated by commas.")] = "",
    agent_id: Annotated[str, Query(max_length=128)] = "",
    status: Annotated[str, Query(max_length=100, description="Statuses of incidents, separated by commas.")] = "",
) -> EventQuery:
    return EventQuery(text=q, severity=severity, agent_id=agent_id, status=status)


@router.get("/event", responses=responses())
async def search_events(
    context: Ctx,
    _principal: Analyst,
    query: Annotated[EventQuery, Depends(_event_query)],
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: Annotated[str, Query(max_length=256)] = "",
) -> Response:
    """Return incidents with their matching alerts, newest first."""
    return answer(await context.control(context.event_search.page, query, limit=limit, cursor=cursor))


@router.get("/event/{event_id:path}", responses=responses(404))
async def read_event(context: Ctx, _principal: Analyst, event_id: EventId) -> Response:
    """Return an alert with all that its agent said of it, its incident and its verdicts."""
    return answer(await context.control(context.event_search.event, event_id))


@router.patch("/incident/{incident_id}", openapi_extra=body_schema(IncidentChange), responses=responses(404))
async def change_incident(request: Request, context: Ctx, principal: Analyst, incident_id: IncidentId) -> Response:
    """Set an incident's status or assignee."""
    change = await read_body(request, IncidentChange)
    return answer(await context.control(context.event_search.change_incident, principal, incident_id, change))

"""Verdicts of analysts on alerts."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from eguard.server.bodies import answer, body_schema, read_body
from eguard.server.context import Ctx
from eguard.server.identity import Analyst, responses
from eguard.server.services.feedback import FeedbackRequest

router = APIRouter(prefix="/api/v1/endpoint", tags=["feedback"])


@router.post("/feedback", status_code=201, openapi_extra=body_schema(FeedbackRequest), responses=responses(404, 409))
async def add_feedback(request: Request, context: Ctx, principal: Analyst) -> Response:
    """Add a verdict; earlier ones stay. Answers all that is said of the event."""
    said = await read_body(request, FeedbackRequest)
    return answer(await context.control(context.feedback.add, principal, said), 201)

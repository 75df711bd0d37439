"""Candidates: the registry of models, and their way to agents and back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from eguard.server.bodies import answer, body_schema, read_body
from eguard.server.context import Ctx
from eguard.server.identity import Admin, Analyst, responses
from eguard.server.routers.rollout import Reason
from eguard.server.services.rollouts import Step
from eguard.wire.control import ShortText

router = APIRouter(prefix="/api/v1/endpoint/ml-ops", tags=["candidates"])

CandidateName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\A[0-9a-f]+\Z")]


class PromoteRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which candidate goes on: to its next stage, or to a share in percent, of which 0 is the shadow and 100 everybody.

    `force` overrides what refuses it, with a reason for the record.
    """

    candidate_id: CandidateName
    to_percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    force: bool = False
    reason: ShortText = ""


class TakeBackRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why; and the earlier release to go back to, if not the latest."""

    to: CandidateName | None = None
    reason: Reason


@router.get("/candidates", responses=responses())
async def candidates(context: Ctx, _principal: Analyst) -> Response:
    """Return the registry of candidates, the newest first."""
    return answer({"candidates": await context.control(context.candidates.rows)})


@router.get("/candidates/{candidate_id}", responses=responses(404))
async def candidate(
    context: Ctx, _principal: Analyst, candidate_id: Annotated[str, Path(min_length=1, max_length=64)]
) -> Response:
    """Return a candidate: gates, digests, history, what agents report of it, and what keeps it from its next stage."""
    return answer(await context.control(context.promotions.show, candidate_id))


@router.post("/promote", openapi_extra=body_schema(PromoteRequest), responses=responses(404, 409))
async def promote(request: Request, context: Ctx, principal: Admin) -> Response:
    """Take a candidate to its next stage: the shadow, 1, 5, 20 percent, every agent."""
    wanted = await read_body(request, PromoteRequest)
    step = Step(wanted.to_percent, wanted.force, wanted.reason)
    return answer(await context.control(context.promotions.promote, principal, wanted.candidate_id, step))


@router.post("/rollback", openapi_extra=body_schema(TakeBackRequest), responses=responses(404, 409))
async def roll_back(request: Request, context: Ctx, principal: Admin) -> Response:
    """Take back the candidate that agents have, or go back to an earlier release."""
    wanted = await read_body(request, TakeBackRequest)
    return answer(await context.control(context.promotions.roll_back, principal, wanted.to, wanted.reason))

"""Rollouts: forward in stages, held, stopped, and back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from eguard.policy import DEFAULT_POLICY_ID
from eguard.server.bodies import answer, body_schema, read_body
from eguard.server.context import Ctx
from eguard.server.identity import Admin, Analyst, responses
from eguard.server.routers.policy import PolicyName
from eguard.server.services.policy_writes import Assigned
from eguard.server.services.rollouts import Step
from eguard.server.services.runbook import MAX_KEYS
from eguard.wire.control import ShortText
from eguard.wire.process_key import MAX_PROCESS_KEY_CHARACTERS

router = APIRouter(prefix="/api/v1/endpoint", tags=["rollout"])

Reason = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]


class AdvanceRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which policy goes a stage further; `force` overrides what refuses it, with a reason for the record."""

    policy_id: PolicyName
    to_percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    force: bool = False
    reason: ShortText = ""


class HoldRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why; and for which policy, all of them if left out."""

    reason: Reason
    policy_id: PolicyName | None = None


class RollbackRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which policy is given up, why, and which stable one its agents get."""

    policy_id: PolicyName
    to_policy_id: PolicyName = DEFAULT_POLICY_ID
    to_policy_version: PolicyName | None = None
    reason: Reason


@router.post("/policy/advance", openapi_extra=body_schema(AdvanceRequest), responses=responses(404, 409))
async def advance(request: Request, context: Ctx, principal: Admin) -> Response:
    """Take a rollout to its next stage, if its time there is over and all four checks hold."""
    wanted = await read_body(request, AdvanceRequest)
    step = Step(wanted.to_percent, wanted.force, wanted.reason)
    return answer(await context.control(context.rollouts.advance, principal, wanted.policy_id, step))


@router.post("/policy/rollback", openapi_extra=body_schema(RollbackRequest), responses=responses(404))
async def roll_back(request: Request, context: Ctx, principal: Admin) -> Response:
    """Walk the rollback of the operations manual, section 7.3, and answer with every step."""
    wanted = await read_body(request, RollbackRequest)
    to = Assigned(wanted.to_policy_id, wanted.to_policy_version)
    return answer(await context.control(context.rollouts.roll_back, principal, wanted.policy_id, to, wanted.reason))


@router.post("/policy/kill", openapi_extra=body_schema(HoldRequest), responses=responses(404))
async def kill(request: Request, context: Ctx, principal: Admin) -> Response:
    """Switch uploads and seeds off: of one policy, or of every policy that agents may be sent."""
    wanted = await read_body(request, HoldRequest)
    return answer(await context.control(context.rollouts.kill, principal, wanted.reason, wanted.policy_id))


@router.post("/fleet/freeze", openapi_extra=body_schema(HoldRequest), responses=responses())
async def freeze(request: Request, context: Ctx, principal: Admin) -> Response:
    """Hold rollouts at the stage where they are."""
    wanted = await read_body(request, HoldRequest)
    return answer(await context.control(context.rollouts.freeze, principal, wanted.reason, wanted.policy_id))


@router.post("/fleet/resume", openapi_extra=body_schema(HoldRequest), responses=responses(409))
async def resume(request: Request, context: Ctx, principal: Admin) -> Response:
    """Let frozen rollouts go on; refused as long as an alarm of drift is open."""
    wanted = await read_body(request, HoldRequest)
    return answer(await context.control(context.rollouts.resume, principal, wanted.reason, wanted.policy_id))


@router.get("/rollout/status", responses=responses(404))
async def status(
    context: Ctx, _principal: Analyst, policy_id: Annotated[str | None, Query(min_length=1, max_length=64)] = None
) -> Response:
    """Return where rollouts stand: stage, real cohort, checks, and what keeps them from the next stage."""
    return answer(await context.control(context.rollouts.status, policy_id))


@router.get("/fleet/explain", responses=responses(404, 409))
async def explain(
    context: Ctx,
    _principal: Analyst,
    key: Annotated[str | None, Query(min_length=3, max_length=MAX_PROCESS_KEY_CHARACTERS)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_KEYS)] = 20,
    generation: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    """Return what moved a process key, or the fleet, away from the reference: keys, agents, and evidence both ways."""
    return answer(await context.control(context.fleet.runbook.explain, key, limit, generation))

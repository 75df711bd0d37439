"""Agents: how they come in, how they are, and what operators decide about each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from eguard.server.bodies import answer, body_schema, read_body
from eguard.server.context import Ctx, ServerContext
from eguard.server.identity import Admin, Agent, Analyst, EnrollingAddress, check_claim, is_agent, responses
from eguard.server.services.heartbeats import Beat
from eguard.server.services.inventory import MAX_PAGE, EndpointState
from eguard.wire.baseline import WireName
from eguard.wire.control import EnrolmentRequest, Heartbeat, InventoryReport, RenewalRequest

router = APIRouter(prefix="/api/v1/endpoint", tags=["endpoint"])

Reason = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\A[^\x00-\x1f\x7f]+\Z")]


class AgentDecision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which agent, and why."""

    agent_id: WireName
    reason: Reason


class QuarantineDecision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose votes are taken, all or none, and why; `resolve_alarms` says that these agents explain all open alarms."""

    reason: Reason
    agent_id: WireName | None = None
    agent_ids: Annotated[list[WireName], Meta(max_length=1000)] = []
    resolve_alarms: bool = False


class GroupMove(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which agent goes into which group."""

    agent_id: WireName
    group: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Annotated[str, Meta(max_length=200, pattern=r"\A[^\x00-\x1f\x7f]*\Z")] = ""


@router.post("/enroll", openapi_extra=body_schema(EnrolmentRequest), responses=responses(409))
async def enroll(request: Request, context: Ctx, address: EnrollingAddress) -> Response:
    """Let a machine in that brings an enrolment token; the one route for which it needs no certificate."""
    body = await read_body(request, EnrolmentRequest)
    return answer(await context.control(context.enrolment.enrol, body, address))


@router.post("/renew", openapi_extra=body_schema(RenewalRequest), responses=responses(409))
async def renew(request: Request, context: Ctx, principal: Agent) -> Response:
    """Give an agent its next certificate."""
    body = await read_body(request, RenewalRequest)
    return answer(await context.control(context.enrolment.renew, principal, body))


@router.post("/heartbeat", openapi_extra=body_schema(Heartbeat), responses=responses())
async def heartbeat(request: Request, context: Ctx, principal: Agent) -> Response:
    """Take down how an agent is; the answer says whether a policy or commands wait for it."""
    body = await read_body(request, Heartbeat)
    await check_claim(context, principal, body.agent_id)
    return answer(await context.heartbeats.ask(Beat(principal, body)))


async def heartbeat_directly(request: Request, context: ServerContext) -> Response:
    """Do what `heartbeat` does, its dependencies included."""
    return await heartbeat(request, context, await is_agent(request, context))


@router.post("/inventory", openapi_extra=body_schema(InventoryReport), responses=responses())
async def report_inventory(request: Request, context: Ctx, principal: Agent) -> Response:
    """Take down what machine an agent is on."""
    body = await read_body(request, InventoryReport)
    await check_claim(context, principal, body.agent_id)
    await context.control(context.inventory.report, principal, body)
    return answer({"status": "ok"})


@router.get("/inventory", responses=responses())
async def list_inventory(
    *,
    context: Ctx,
    _principal: Analyst,
    q: Annotated[str, Query(max_length=128, description="Part of a name, an address or a version.")] = "",
    os: Annotated[str, Query(max_length=32, description="Type of operating system, such as linux.")] = "",
    status: EndpointState | None = None,
    group: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    cursor: Annotated[str, Query(max_length=128)] = "",
) -> Response:
    """Return endpoints by name, with their machines and latest heartbeats."""
    page = await context.control(
        context.inventory.rows, q=q, os=os, status=status, group=group, limit=limit, cursor=cursor
    )
    return answer(page)


@router.get("/agent/{agent_id:path}", responses=responses(404))
async def read_agent(
    context: Ctx, _principal: Analyst, agent_id: Annotated[str, Path(min_length=1, max_length=128)]
) -> Response:
    """Return one endpoint with its certificates."""
    endpoint = await context.control(context.inventory.endpoint, agent_id)
    certificates = await context.control(context.certificates.list, agent_id)
    return answer({**endpoint, "certificates": certificates})


@router.post("/agent/decommission", openapi_extra=body_schema(AgentDecision), responses=responses(404, 409))
async def decommission(request: Request, context: Ctx, principal: Admin) -> Response:
    """Take an agent out of the fleet and revoke its certificates; it is refused until it is enrolled again."""
    body = await read_body(request, AgentDecision)
    return answer(await context.control(context.endpoints.decommission, principal, body.agent_id, body.reason))


@router.post("/agent/group", openapi_extra=body_schema(GroupMove), responses=responses(404, 409))
async def move_to_group(request: Request, context: Ctx, principal: Admin) -> Response:
    """Put an agent into a group; it is sent that group's policy."""
    body = await read_body(request, GroupMove)
    return answer(await context.control(context.endpoints.move, principal, body.agent_id, body.group, body.reason))


@router.post("/fleet/quarantine", openapi_extra=body_schema(QuarantineDecision), responses=responses(404, 409))
async def quarantine(request: Request, context: Ctx, principal: Admin) -> Response:
    """Keep the profiles of agents and take their votes."""
    body = await read_body(request, QuarantineDecision)
    names = [*body.agent_ids, *([] if body.agent_id is None else [body.agent_id])]
    done = await context.control(
        context.fleet.runbook.quarantine, principal, names, body.reason, resolve_alarms=body.resolve_alarms
    )
    return answer(done)


@router.post("/fleet/release", openapi_extra=body_schema(AgentDecision), responses=responses(404, 409))
async def release(request: Request, context: Ctx, principal: Admin) -> Response:
    """Give a quarantined agent its votes back."""
    body = await read_body(request, AgentDecision)
    return answer(await context.control(context.endpoints.release, principal, body.agent_id, body.reason))

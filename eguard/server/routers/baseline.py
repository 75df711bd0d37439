"""Baselines in, seeds out."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Query
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from eguard.errors import ServerRefusalError
from eguard.server.bodies import answer, body_schema, read_body, read_bytes
from eguard.server.context import Ctx, ServerContext
from eguard.server.identity import Admin, Agent, AgentOrAnalyst, Analyst, check_claim, is_agent, responses
from eguard.server.listeners import AGENTS
from eguard.server.principal import Principal, Role
from eguard.server.services.fleet import PAGE_ROWS
from eguard.server.services.seed_pages import PageWish
from eguard.server.services.sent_policies import Controls
from eguard.wire.baseline import BaselineBatch, receive_baseline_batch, receive_plain_batch
from eguard.wire.control import INCARNATION_HEADER, ShortText
from eguard.wire.fleet import MAX_PAGE_BYTES, FleetRow, ImportSource, check_fleet_rows

router = APIRouter(prefix="/api/v1/endpoint", tags=["baseline"])

_MAX_INCARNATION_CHARACTERS = 64
#: Bodies up to this are read where they arrive, within a millisecond; larger and odd ones in a thread.
QUICK_BYTES = 131_072
_MAX_PAGE_ROWS = 1000
_MAX_CURSOR_CHARACTERS = 512
#: How agents ask for a page; the cursor's bytes stand for themselves or as ``%XX``.
_PAGE = re.compile(rb"limit=(?P<limit>[0-9]{1,4})(?:&cursor=(?P<cursor>[^&+;=#]*))?")


class AggregateRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """How many agents a published key needs, the server's setting if left out; whether unchanged keys count again."""

    min_agents: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    full: bool = False


class GenerationRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The generation to go back to, and why."""

    generation: Annotated[int, Meta(ge=1)]
    reason: ShortText = ""


class ApprovalRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The generation that drift is measured against from now on, the current one if left out; and why."""

    generation: Annotated[int, Meta(ge=1)] | None = None
    reason: ShortText = ""


class ImportRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole generation from elsewhere: its rows, where they come from, and why."""

    source_version: Annotated[str, Meta(min_length=1, max_length=64)]
    source: ImportSource = "import"
    reason: ShortText = ""
    fleet_baselines: Annotated[list[FleetRow], Meta(min_length=1, max_length=100_000)]


@router.post("/baseline/batch", openapi_extra=body_schema(BaselineBatch), responses=responses(413))
async def take_batch(request: Request, context: Ctx, principal: Agent) -> Response:
    """Take an upload: good rows are stored, bad ones named. It is on disk when this is answered."""
    controls = await _controls(context, principal)
    if not controls.upload_enabled:
        context.metrics.count_upload_refusal("baseline_upload_disabled")
        raise ServerRefusalError(403, "baseline_upload_disabled", "the policy has switched uploads off")
    if not controls.upload_in_canary:
        context.metrics.count_upload_refusal("not_in_canary")
        raise ServerRefusalError(403, "not_in_canary", "this agent is not among those that upload at this stage")
    body = await read_bytes(request, context.ingest.max_bytes)
    incarnation = request.headers.get(INCARNATION_HEADER)
    if incarnation is not None and not _is_name(incarnation):
        raise ServerRefusalError(400, "invalid_incarnation", f"{INCARNATION_HEADER} is not a printable name")
    batch = receive_plain_batch(body) if len(body) <= QUICK_BYTES else None
    if batch is None:
        batch = await context.bulk(receive_baseline_batch, body, context.ingest.max_bytes)
    await check_claim(context, principal, batch.agent_id)
    result = await context.ingest.take(batch, incarnation)
    context.metrics.count_upload(result)
    context.counts.uploaded(
        principal.name,
        accepted=result.accepted,
        rejected=len(result.rejected),
        rows=len(batch.baselines),
        seeded=sum(row.prior_generation is not None for row in batch.baselines),
    )
    return answer(result)


async def take_batch_directly(request: Request, context: ServerContext) -> Response:
    """Do what `take_batch` does, its dependencies included."""
    return await take_batch(request, context, await is_agent(request, context))


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _MAX_INCARNATION_CHARACTERS and text.isascii() and text.isprintable()


@router.post("/baseline/aggregate", openapi_extra=body_schema(AggregateRequest), responses=responses(409, 502))
async def aggregate(request: Request, context: Ctx, principal: Admin) -> Response:
    """Aggregate the votes of all active agents into a new generation."""
    wanted = await read_body(request, AggregateRequest)
    report = await context.control(context.fleet.aggregate, principal, wanted.min_agents, is_full=wanted.full)
    context.metrics.count_aggregation(report)
    return answer(report.to_dict())


@router.get("/baseline/fleet", responses=responses())
async def fetch_fleet(
    context: Ctx,
    principal: AgentOrAnalyst,
    limit: Annotated[int, Query(ge=1, le=_MAX_PAGE_ROWS)] = PAGE_ROWS,
    cursor: Annotated[str, Query(max_length=_MAX_CURSOR_CHARACTERS)] = "",
) -> Response:
    """Return rows of the current generation in key order; an agent outside the cohort gets none."""
    return await _fleet_page(context, principal, limit, cursor)


async def fetch_fleet_directly(request: Request, context: ServerContext) -> Response | None:
    """Do what `fetch_fleet` does for an agent that asks the way agents ask; none for everybody else."""
    asked = _PAGE.fullmatch(request.scope["query_string"])
    if asked is None or request.scope["state"]["listener"] != AGENTS:
        return None
    limit, cursor = int(asked["limit"]), unquote_to_bytes(asked["cursor"] or b"")
    if not 1 <= limit <= _MAX_PAGE_ROWS or len(cursor) > _MAX_CURSOR_CHARACTERS or not cursor.isascii():
        return None
    return await _fleet_page(context, await is_agent(request, context), limit, cursor.decode())


async def _fleet_page(context: ServerContext, principal: Principal, limit: int, cursor: str) -> Response:
    is_enabled = True
    if principal.role is Role.AGENT:
        controls = await _controls(context, principal)
        is_enabled = controls.seed_enabled and controls.seed_in_canary
    page = await context.seed_pages.ask(PageWish(limit, cursor, is_enabled))
    context.metrics.count_seeds(page.seeded)
    if principal.role is Role.AGENT and is_enabled:
        context.counts.handed_out(principal.name, page.seeded)
    return Response(page.body, media_type="application/json")


async def _controls(context: ServerContext, principal: Principal) -> Controls:
    known = context.policies.known_controls(principal.name)
    return known if known is not None else await context.controls.ask(principal.name)


@router.post("/baseline/fleet/import", openapi_extra=body_schema(ImportRequest), responses=responses(409, 413))
async def import_fleet(request: Request, context: Ctx, principal: Admin) -> Response:
    """Publish a generation that comes from elsewhere."""
    wanted = await read_body(request, ImportRequest, 16 * MAX_PAGE_BYTES)
    check_fleet_rows(wanted.fleet_baselines)
    generation = await context.control(
        context.fleet.import_rows,
        principal,
        wanted.fleet_baselines,
        wanted.source_version,
        wanted.reason,
        wanted.source,
    )
    return answer({"generation": generation, "imported": len(wanted.fleet_baselines)})


@router.post("/baseline/fleet/rollback", openapi_extra=body_schema(GenerationRequest), responses=responses(404, 409))
async def roll_back(request: Request, context: Ctx, principal: Admin) -> Response:
    """Publish an earlier generation anew."""
    wanted = await read_body(request, GenerationRequest)
    done = await context.control(context.fleet.roll_back, principal, wanted.generation, wanted.reason)
    found = {"rolled_back_to": wanted.generation, "resolved_alarms": done.resolved_alarms}
    return answer({"generation": done.generation, **found})


@router.post("/fleet/approve", openapi_extra=body_schema(ApprovalRequest), responses=responses(404))
async def approve(request: Request, context: Ctx, principal: Admin) -> Response:
    """Pin a generation as the reference of the fleet's health."""
    wanted = await read_body(request, ApprovalRequest)
    done = await context.control(context.fleet.approve, principal, wanted.generation, wanted.reason)
    return answer({"reference_generation": done.generation, "resolved_alarms": done.resolved_alarms})


@router.get("/fleet/health", responses=responses())
async def health(context: Ctx, _principal: Analyst, limit: Annotated[int, Query(ge=1, le=400)] = 60) -> Response:
    """Return how the fleet's baseline moved from generation to generation, and the alarms of drift."""
    found: dict[str, Any] = await context.control(context.fleet.runbook.health, limit)
    return answer(found)

"""What is not to be alerted on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from eguard.server.bodies import answer, body_schema, read_body
from eguard.server.context import Ctx
from eguard.server.identity import Admin, Analyst, responses
from eguard.server.services.whitelist_values import WhitelistRequest
from eguard.wire.policy import WhitelistKind

router = APIRouter(prefix="/api/v1/endpoint", tags=["whitelist"])


@router.get("/whitelist", responses=responses())
async def list_entries(
    context: Ctx,
    _principal: Analyst,
    kind: WhitelistKind | None = None,
    scope: Annotated[str, Query(max_length=8)] = "",
    scope_id: Annotated[str, Query(max_length=128)] = "",
    include_expired: Annotated[bool, Query()] = True,
) -> Response:
    """Return the entries, latest first."""
    entries = await context.control(
        context.whitelist.entries, kind=kind or "", scope=scope, scope_id=scope_id, include_expired=include_expired
    )
    return answer({"entries": entries})


@router.post("/whitelist", status_code=201, openapi_extra=body_schema(WhitelistRequest), responses=responses(404, 409))
async def create_entry(request: Request, context: Ctx, principal: Admin) -> Response:
    """Add an entry; agents that it concerns are told with their next policy."""
    wanted = await read_body(request, WhitelistRequest)
    return answer(await context.control(context.whitelist.create, principal, wanted), 201)


@router.delete("/whitelist/{entry_id}", responses=responses(404))
async def delete_entry(
    context: Ctx, principal: Admin, entry_id: Annotated[str, Path(min_length=1, max_length=32)]
) -> Response:
    """Remove an entry and answer what it said."""
    return answer(await context.control(context.whitelist.delete, principal, entry_id))

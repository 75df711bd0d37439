"""Network isolation of endpoints, as far as the server decides on it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from eguard.server.bodies import answer, body_schema, read_body
from eguard.server.context import Ctx
from eguard.server.identity import Admin, responses
from eguard.server.services.commands import CommandRequest

router = APIRouter(prefix="/api/v1/endpoint/nac", tags=["nac"])


@router.post("/isolate", status_code=202, openapi_extra=body_schema(CommandRequest), responses=responses(404, 409))
async def isolate(request: Request, context: Ctx, principal: Admin) -> Response:
    """Queue the isolation of an agent's machine; it counts once the agent has acknowledged it."""
    wanted = await read_body(request, CommandRequest)
    return answer(await context.control(context.commands.queue, principal, "isolate", wanted), 202)


@router.post("/allow", status_code=202, openapi_extra=body_schema(CommandRequest), responses=responses(404, 409))
async def allow(request: Request, context: Ctx, principal: Admin) -> Response:
    """Queue the end of an isolation."""
    wanted = await read_body(request, CommandRequest)
    return answer(await context.control(context.commands.queue, principal, "allow", wanted), 202)


@router.get("/status", responses=responses())
async def status(context: Ctx, _principal: Admin, agent_id: Annotated[str, Query(max_length=128)] = "") -> Response:
    """Return what agents said last of their isolation, and their latest commands."""
    return answer({"agents": await context.control(context.commands.status, agent_id)})

"""Commands on their way to agents, and what became of them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from eguard.server.bodies import answer, body_schema, read_body
from eguard.server.context import Ctx
from eguard.server.identity import Agent, responses
from eguard.wire.control import CommandAcknowledgement

router = APIRouter(prefix="/api/v1/endpoint/command", tags=["command"])


@router.get("/pending", responses=responses())
async def pending(context: Ctx, principal: Agent) -> Response:
    """Return the commands that wait for the agent, oldest first, until it acknowledges them."""
    return answer(await context.control(context.commands.pending, principal.name))


@router.post("/ack", openapi_extra=body_schema(CommandAcknowledgement), responses=responses(404))
async def acknowledge(request: Request, context: Ctx, principal: Agent) -> Response:
    """Take down what became of a command."""
    said = await read_body(request, CommandAcknowledgement)
    return answer(await context.control(context.commands.acknowledge, principal.name, said))

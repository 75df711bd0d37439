"""Whether the server is alive, and whether it is ready for work."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.responses import Response

from eguard.server.bodies import answer
from eguard.server.context import Ctx
from eguard.server.health import check_readiness
from eguard.server.identity import is_on_administration

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def alive() -> Response:
    """Answer that the process answers; it looks at nothing else."""
    return answer({"status": "alive"})


@router.get("/readyz", dependencies=[Depends(is_on_administration)], responses={503: {"description": "A check failed"}})
async def ready(context: Ctx) -> Response:
    """Answer 200 if the server can do its work, else 503 with the checks that failed and what to do."""
    checks = await context.control(check_readiness, context)
    is_ready = all(check.ok for check in checks)
    return answer({"status": "ready" if is_ready else "unready", "checks": checks}, 200 if is_ready else 503)

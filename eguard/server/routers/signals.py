"""The fleet at a glance."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from eguard.server.bodies import answer
from eguard.server.context import Ctx
from eguard.server.identity import Analyst, responses

router = APIRouter(prefix="/api/v1/endpoint", tags=["signals"])


@router.get("/ml-ops/summary", responses=responses())
async def summary(
    context: Ctx, _principal: Analyst, range_text: Annotated[str, Query(alias="range", max_length=16)] = "24h"
) -> Response:
    """Return the signals that operators watch, over a range such as 30m, 24h or 7d that ends now."""
    return answer(await context.control(context.signals.summary, range_text))

"""Metrics, as Prometheus reads them."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.responses import PlainTextResponse, Response

from eguard.server.context import Ctx
from eguard.server.identity import is_on_administration
from eguard.server.metrics import CONTENT_TYPE

router = APIRouter(tags=["metrics"])


@router.get("/metrics", dependencies=[Depends(is_on_administration)], response_class=PlainTextResponse)
async def metrics(context: Ctx) -> Response:
    """Return all metrics."""
    return Response(await context.control(context.metrics.render), media_type=CONTENT_TYPE)

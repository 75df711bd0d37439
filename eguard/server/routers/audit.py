"""The audit log, for reading and for checking."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from eguard.errors import ServerRefusalError
from eguard.server.bodies import answer
from eguard.server.context import Ctx
from eguard.server.identity import Analyst, responses
from eguard.server.services.audit import MAX_PAGE
from eguard.server.services.audit_chain import ChainHead
from eguard.wire.baseline import MAX_TIME_UNIX

router = APIRouter(prefix="/api/v1/endpoint/audit", tags=["audit"])

TimeUnix = Annotated[float | None, Query(ge=0.0, le=MAX_TIME_UNIX, allow_inf_nan=False)]
Text = Annotated[str | None, Query(min_length=1, max_length=160)]


@router.get("", responses=responses())
async def search(
    *,
    context: Ctx,
    _principal: Analyst,
    principal: Text = None,
    action: Text = None,
    object_type: Text = None,
    object_id: Text = None,
    since: TimeUnix = None,
    until: TimeUnix = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    cursor: Annotated[str | None, Query(max_length=32)] = None,
) -> Response:
    """Return records that fit every filter given, newest first; times are seconds since the epoch."""
    page = await context.control(
        context.audit.search,
        principal=principal,
        action=action,
        object_type=object_type,
        object_id=object_id,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
    )
    return answer(page)


@router.get("/verify", responses=responses())
async def verify(
    context: Ctx,
    _principal: Analyst,
    sequence: Annotated[int | None, Query(ge=1, le=2**53 - 1, description="Of a head that was kept.")] = None,
    record_hash: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$", description="Of the same head.")] = None,
) -> Response:
    """Walk the chain and return the first broken link; with a head that was kept, also whether it is still in."""
    if (sequence is None) != (record_hash is None):
        raise ServerRefusalError(422, "invalid_parameter", "a head is a sequence and a record_hash: give both")
    head = None
    if sequence is not None and record_hash is not None:
        head = ChainHead(sequence=sequence, record_hash=record_hash)
    return answer(await context.bulk(context.audit.verify, head))

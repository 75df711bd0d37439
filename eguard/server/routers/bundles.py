"""Signed bundles for agents: the files of a TUF repository."""

from __future__ import annotations

from typing import Final, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from eguard.server.bodies import answer
from eguard.server.context import Ctx, ServerContext
from eguard.server.identity import Agent, responses
from eguard.server.services.bundle_files import BundleFiles, is_known

router = APIRouter(prefix="/api/v1", tags=["bundles"])

_FILE: Final = responses(404) | {
    200: {"description": "The file", "content": {"application/octet-stream": {}}},
    304: {"description": "The file is the one of the ETag in If-None-Match"},
}


@router.get("/bundles/metadata/{name:path}", response_class=StreamingResponse, responses=_FILE)
async def read_metadata(request: Request, context: Ctx, _principal: Agent, name: str) -> Response:
    """Return a metadata file of the repository."""
    return await _send(request, context, "metadata", name)


@router.get("/bundles/targets/{name:path}", response_class=StreamingResponse, responses=_FILE)
async def read_target(request: Request, context: Ctx, _principal: Agent, name: str) -> Response:
    """Return a target file of the repository."""
    return await _send(request, context, "targets", name)


@router.get("/endpoint/threat-intel/version", responses=responses(404))
async def read_version(context: Ctx, _principal: Agent) -> Response:
    """Return what the repository offers now."""
    return answer(await context.control(BundleFiles(context.settings.repository).version))


async def _send(request: Request, context: ServerContext, kind: Literal["metadata", "targets"], name: str) -> Response:
    file = await context.control(BundleFiles(context.settings.repository).open, kind, name)
    headers = {"ETag": file.etag, "Cache-Control": "private, no-cache"}
    if is_known(file.etag, request.headers.get("if-none-match", "")):
        file.stream.close()
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(file.length_bytes)
    return StreamingResponse(file.chunks(), headers=headers, media_type="application/octet-stream")

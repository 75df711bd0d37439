"""Maintenance tasks: what there is, how their runs went, and a run at once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from eguard.server.bodies import answer
from eguard.server.context import Ctx
from eguard.server.identity import Admin, responses

router = APIRouter(prefix="/api/v1/config", tags=["maintenance"])

TaskId = Annotated[str, Path(min_length=1, max_length=64)]


@router.get("/maintenance_tasks", responses=responses())
async def list_tasks(context: Ctx, _principal: Admin) -> Response:
    """Return every task with its schedule, its next run and its last one."""
    return answer({"tasks": await context.control(context.scheduler.tasks)})


@router.get("/maintenance_task/{task_id}/runs", responses=responses(404))
async def list_runs(
    context: Ctx, _principal: Admin, task_id: TaskId, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> Response:
    """Return a task's runs, latest first."""
    return answer({"runs": await context.control(context.scheduler.runs, task_id, limit)})


@router.post("/maintenance_task/{task_id}/run", status_code=202, responses=responses(404, 409))
async def run_task(context: Ctx, principal: Admin, task_id: TaskId) -> Response:
    """Start a task now; it runs on after this is answered."""
    run_id = await context.control(context.scheduler.trigger, principal, task_id)
    return answer({"task_id": task_id, "run_id": run_id, "status": "running"}, 202)

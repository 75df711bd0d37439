"""HTTP routes, one noun a file; thin: read, call a service, answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from eguard.server.context import ServerContext
from eguard.server.routers import (
    access,
    audit,
    baseline,
    bundles,
    candidates,
    command,
    endpoint,
    event,
    feedback,
    health,
    maintenance,
    metrics,
    nac,
    policy,
    rollout,
    signals,
    whitelist,
)
from eguard.server.withheld import WithheldPolicy

ROUTERS: Final[tuple[APIRouter, ...]] = (
    access.router,
    audit.router,
    baseline.router,
    bundles.router,
    candidates.router,
    command.router,
    endpoint.router,
    event.router,
    feedback.router,
    maintenance.router,
    nac.router,
    policy.router,
    rollout.router,
    signals.router,
    whitelist.router,
    health.router,
    metrics.router,
)

DirectRoute = Callable[[Request, ServerContext], Awaitable[Response | WithheldPolicy | None]]

#: Routes so busy that finding them and resolving their dependencies would cost as much as a quarter of their work. They
#: are declared like all others; this is the shorter way to the same function, and keeps less memory while an answer is
#: withheld. Where it returns nothing the ordinary way is gone.
DIRECT_ROUTES: Final[Mapping[tuple[str, str], DirectRoute]] = {
    ("POST", f"{baseline.router.prefix}/baseline/batch"): baseline.take_batch_directly,
    ("GET", f"{baseline.router.prefix}/baseline/fleet"): baseline.fetch_fleet_directly,
    ("POST", f"{endpoint.router.prefix}/heartbeat"): endpoint.heartbeat_directly,
    ("GET", f"{policy.router.prefix}/policy"): policy.get_policy_directly,
}

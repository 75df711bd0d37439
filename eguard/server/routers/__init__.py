"""HTTP routes, one noun a file; thin: read, call a service, answer."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from eguard.server.routers import (
    access,
    audit,
    baseline,
    bundles,
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

ROUTERS: Final[tuple[APIRouter, ...]] = (
    access.router,
    audit.router,
    baseline.router,
    bundles.router,
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

"""HTTP routes, one noun a file; thin: read, call a service, answer."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from eguard.server.routers import (
    baseline,
    bundles,
    command,
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
    baseline.router,
    bundles.router,
    command.router,
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

"""The application behind both listeners."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eguard import __version__
from eguard.errors import EguardError
from eguard.server.context import ServerContext
from eguard.server.errors import answer_error, answer_http, answer_unexpected, answer_validation, error_response
from eguard.server.listeners import AGENTS
from eguard.server.openapi import DescribedApp
from eguard.server.routers import DIRECT_ROUTES, ROUTERS, DirectRoute
from eguard.server.services.signal_counts import REJECTS
from eguard.server.withheld import WithheldPolicy

#: What agents may ask for at all; everything else is unknown at their port.
_AGENT_PATHS: Final = ("/api/v1/endpoint/", "/api/v1/bundles/", "/healthz")
#: Answers hold names from endpoints; nothing of them may run in a browser.
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_DOCUMENTATION: Final = ("/docs", "/redoc", "/admin")

#: Uploads that were refused whole because of what they say: rejected payloads, as single bad rows are.
UPLOAD_PATH: Final = "/api/v1/endpoint/baseline/batch"
UNREADABLE: Final = frozenset({400, 413, 415, 422})

_log = structlog.get_logger("eguard.server")


def make_app(context: ServerContext) -> Gate:
    """Return the application on a context."""
    app = describe_routes()
    app.state.context = context
    app.add_exception_handler(EguardError, answer_error)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_validation)
    app.add_exception_handler(Exception, answer_unexpected)
    return Gate(app, context)


def describe_routes() -> FastAPI:
    """Return the application without what it works on: its routes, and what its document says of them."""
    app = DescribedApp(
        title="eGuard",
        version=__version__,
        description="The fleet's server: baselines, seeds, policies, alerts and what operators decide.",
        docs_url="/docs",
        redoc_url=None,
        openapi_url="/openapi.json",
        separate_input_output_schemas=False,
    )
    for router in ROUTERS:
        app.include_router(router)
    return app


class Gate:
    """Outermost: which paths a listener has, headers of every answer, one measure of every request."""

    def __init__(self, app: ASGIApp, context: ServerContext) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> WithheldPolicy | None:
        """Answer one request, or return that its answer is withheld."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return None
        scope["app"] = self._app
        direct = DIRECT_ROUTES.get((scope["method"], scope["path"]))
        return await self._serve(direct, time.perf_counter(), scope, receive, send)

    async def _serve(
        self, direct: DirectRoute | WithheldPolicy | None, started: float, scope: Scope, receive: Receive, send: Send
    ) -> WithheldPolicy | None:
        """Answer by a direct route, by what a policy was withheld for until now, or by the framework."""
        answered = {"status": 500}
        wrapped = _with_headers(send, scope["path"], answered)
        withheld: WithheldPolicy | None = None
        try:
            if scope["state"].get("listener") == AGENTS and not scope["path"].startswith(_AGENT_PATHS):
                refusal = error_response(404, "not_found", "there is no such route at this port")
                await refusal(scope, receive, wrapped)
            elif direct is not None:
                response = await self._answer(direct, Request(scope, receive))
                if isinstance(response, WithheldPolicy):
                    withheld = response
                    withheld.go_on = partial(self._serve, withheld, started)
                    return withheld
                await (response or self._app)(scope, receive, wrapped)
            else:
                await self._app(scope, receive, wrapped)
        except Exception as error:  # the edge: whatever went wrong, the client gets a refusal and the log its cause
            _log.exception("request failed", method=scope["method"], path=scope["path"])
            if answered.get("complete"):
                return None  # refused already
            if answered.get("started"):
                raise
            await answer_unexpected(None, error)(scope, receive, wrapped)  # type: ignore[arg-type]
        finally:
            if withheld is None:
                self._measure(scope, answered["status"], time.perf_counter() - started)
        return None

    async def _answer(self, direct: DirectRoute | WithheldPolicy, request: Request) -> Response | WithheldPolicy | None:
        try:
            if isinstance(direct, WithheldPolicy):
                return await direct.answer()
            return await direct(request, self._context)
        except EguardError as error:
            return answer_error(request, error)

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        metrics = self._context.metrics
        if metrics is not None:
            route = scope.get("route")
            is_direct = (scope["method"], scope["path"]) in DIRECT_ROUTES
            template = scope["path"] if is_direct else getattr(route, "path", "unknown")
            metrics.observe_request(scope["method"], template, status, seconds)
            if template == UPLOAD_PATH and status in UNREADABLE:
                self._context.counts.add({REJECTS: 1})


def _with_headers(send: Send, path: str, answered: dict[str, Any]) -> Callable[[Message], Any]:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            answered["status"] = message["status"]
            answered["started"] = True
            if not path.startswith(_DOCUMENTATION):
                present = {name for name, _ in message.get("headers", [])}
                extra = [(name, value) for name, value in _HEADERS if name not in present]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
        elif not message.get("more_body", False):
            answered["complete"] = True
        await send(message)

    return sending

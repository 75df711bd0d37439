"""From eGuard's errors to HTTP answers: the one table, and the one form of a refusal."""

from __future__ import annotations

from typing import Final

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eguard.errors import (
    BundleError,
    ConfigError,
    EguardError,
    FleetStoreError,
    PayloadTooLargeError,
    PolicyError,
    ServerRefusalError,
    WireError,
)
from eguard.wire.bodies import encode_body
from eguard.wire.control import ErrorBody, FieldError

_log = structlog.get_logger("eguard.server")

_STORE_STATUS: Final = {
    "aggregation_running": 409,
    "conflict": 409,
    "unknown_generation": 404,
    "pruned_generation": 404,
    "unknown_agent": 404,
    "invalid_import": 422,
    "engine_unavailable": 502,
    "engine_versions": 502,
}
_PHRASES: Final = {
    400: "bad_request",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "invalid_body",
    503: "unavailable",
}
#: Refusals that pass by themselves, and after how many seconds a client should ask again.
_RETRY_SECONDS: Final = {503: 5, 429: 5}


def error_body(status: int, code: str, message: str, errors: list[tuple[str, str]] | None = None) -> bytes:
    """Return the JSON of a refusal."""
    fields = [FieldError(field=field, detail=detail) for field, detail in errors or []]
    return encode_body(ErrorBody(message=message, code=code, status=status, errors=fields))


def error_response(
    status: int,
    code: str,
    message: str,
    errors: list[tuple[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return a refusal as an answer."""
    answered = dict(headers or {})
    if status in _RETRY_SECONDS:
        answered.setdefault("Retry-After", str(_RETRY_SECONDS[status]))
    return Response(error_body(status, code, message, errors), status, answered, "application/json")


def answer_error(request: Request, error: Exception) -> Response:
    """Answer one of eGuard's errors; one of the database is counted."""
    if not isinstance(error, EguardError):
        return answer_unexpected(request, error)
    status, code, errors = _describe(error)
    if isinstance(error, FleetStoreError) and status == 503:
        request.app.state.context.metrics.count_database_error(code)
        _log.error("the database refused", path=request.url.path, reason=code, error=error.message)
    message = error.message if status != 503 else "the server cannot do this now"
    return error_response(status, code, message, errors)


def answer_http(_request: Request, error: Exception) -> Response:
    """Answer what the framework refuses by itself: unknown paths, wrong methods."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = str(error.detail) if isinstance(error, HTTPException) else "internal error"
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else None
    return error_response(status, _PHRASES.get(status, "error"), message, headers=headers)


def answer_validation(_request: Request, error: Exception) -> Response:
    """Answer parameters of a path or query that cannot be read."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    errors = [(".".join(str(part) for part in fault["loc"][1:]), str(fault["msg"])) for fault in faults]
    message = f"{errors[0][0]}: {errors[0][1]}" if errors else "a parameter cannot be read"
    return error_response(422, "invalid_parameter", message, errors)


def answer_unexpected(_request: Request, _error: Exception) -> Response:
    """Answer a fault of the server's own: nothing of it leaves the log."""
    return error_response(500, "internal_error", "internal error; the server's log has the cause")


def _describe(error: EguardError) -> tuple[int, str, list[tuple[str, str]]]:
    described: tuple[int, str, list[tuple[str, str]]] = 500, "internal_error", []
    if isinstance(error, ServerRefusalError):
        described = error.status, error.reason, error.errors
    elif isinstance(error, PayloadTooLargeError):
        described = 413, "payload_too_large", []
    elif isinstance(error, WireError):
        described = _describe_wire(error)
    elif isinstance(error, PolicyError):
        described = 422, "invalid_policy", error.errors
    elif isinstance(error, FleetStoreError):
        reason = str(error.context.get("reason", "database"))
        described = _STORE_STATUS.get(reason, 503), reason, []
    elif isinstance(error, BundleError | ConfigError):
        described = 422, error.code, []
    return described


def _describe_wire(error: WireError) -> tuple[int, str, list[tuple[str, str]]]:
    reason = str(error.context.get("reason", "invalid_body"))
    field = error.context.get("field")
    errors = [(str(field), str(error.context.get("detail", error.message)))] if field is not None else []
    return (422 if reason == "invalid_body" else 400), reason, errors

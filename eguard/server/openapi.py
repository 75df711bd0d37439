"""The API's document: what the routes say of themselves, and what holds for all of them.

``python -m eguard.server.openapi > docs/reference/openapi.json`` writes the copy in the documentation.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from eguard.server import identity
from eguard.server.identity import CSRF_HEADER, SESSION_COOKIE
from eguard.server.routers import ROUTERS
from eguard.wire.control import ErrorBody

#: Extension of an operation: who may ask, and thereby at which listener it is.
AUDIENCE: Final = "x-eguard-audience"

_CERTIFICATE: Final = {"agentCertificate": list[str]()}
_TOKEN: Final = {"accessToken": list[str]()}
_SESSION: Final = {"session": list[str]()}
#: By the dependency of a route: its audience and what proves that somebody belongs to it. Without one: anyone.
_AUDIENCES: Final[dict[Callable[..., Any], tuple[str, list[dict[str, list[str]]]]]] = {
    identity.is_agent: ("agent", [_CERTIFICATE]),
    identity.is_enrolling: ("machine with an enrolment token", []),
    identity.is_analyst: ("analyst", [_TOKEN, _SESSION]),
    identity.is_admin: ("admin", [_TOKEN, _SESSION]),
    identity.is_agent_or_analyst: ("agent or analyst", [_CERTIFICATE, _TOKEN, _SESSION]),
    identity.is_agent_or_admin: ("agent or admin", [_CERTIFICATE, _TOKEN, _SESSION]),
    identity.is_on_administration: ("anyone at the administration listener", []),
}
_SCHEMES: Final = {
    "agentCertificate": {"type": "mutualTLS", "description": "The certificate of an enrolled agent."},
    "accessToken": {"type": "http", "scheme": "bearer", "description": "Made by `eguard server token access create`."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": f"Of POST /api/v1/session; a change also needs its CSRF token in {CSRF_HEADER}.",
    },
}
_ERROR_SCHEMA: Final = "#/components/schemas/ErrorBody"
#: Refusals that any route may answer, whatever else it says.
_ALWAYS: Final = {"404": "No such thing, or no such route at this port", "503": "Not now: come back (Retry-After)"}
_BODY_ALWAYS: Final = {"408": "Did not arrive in time", "413": "Too large", "415": "Unsupported encoding"}
_FIRST_ERROR: Final = 400


class DescribedApp(FastAPI):
    """An application whose document is complete."""

    def openapi(self) -> dict[str, Any]:
        """Return the document; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _complete(super().openapi())
        return self.openapi_schema


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    _, refusals = msgspec.json.schema_components([ErrorBody], ref_template="#/components/schemas/{name}")
    schemas = {**components.get("schemas", {}), **refusals}
    for form_of_the_framework in ("HTTPValidationError", "ValidationError"):
        schemas.pop(form_of_the_framework, None)
    components |= {"schemas": schemas, "securitySchemes": _SCHEMES}
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                for method in sorted(route.methods or ()):
                    _complete_operation(document["paths"][route.path_format][method.lower()], route)
    return document


def _complete_operation(operation: dict[str, Any], route: APIRoute) -> None:
    audience, security = next(_audiences(route.dependant), ("anyone", []))
    operation[AUDIENCE] = audience
    if security:
        operation["security"] = security
    responses = operation["responses"]
    if route.path.startswith("/api/"):
        for status, description in (_ALWAYS | (_BODY_ALWAYS if "requestBody" in operation else {})).items():
            responses.setdefault(status, {"description": description})
        for status, response in responses.items():
            if int(status) >= _FIRST_ERROR:
                response["content"] = {"application/json": {"schema": {"$ref": _ERROR_SCHEMA}}}
    operation["responses"] = dict(sorted(responses.items()))


def _audiences(dependant: Dependant) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    for each in dependant.dependencies:
        if each.call in _AUDIENCES:
            yield _AUDIENCES[each.call]
        yield from _audiences(each)


def main() -> None:
    """Print the document."""
    from eguard.server.app import describe_routes  # noqa: PLC0415 - it needs this module first

    sys.stdout.write(json.dumps(describe_routes().openapi(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

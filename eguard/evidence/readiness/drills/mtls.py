"""Transport: this endpoint speaks mutual TLS, and the server serves nobody who brings no certificate."""

from __future__ import annotations

import http.client
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from eguard.evidence.readiness.course import Course, DrillOptions
from eguard.evidence.readiness.doctor import examine
from eguard.settings import load_agent_settings

TITLE: Final = "Check this endpoint's certificate and channel, and try the server without certificate and without TLS"
_CHECKS: Final = (
    "transport",
    "tls_files",
    "tls_certificate",
    "tls_authority",
    "server_name",
    "server_connect",
    "server_tls",
    "server_identity",
)
_SECONDS: Final = 10.0
_PATH: Final = "/api/v1/endpoint/policy?revision=0"
_UNAUTHORIZED: Final = 401


def run(course: Course, options: DrillOptions) -> None:  # noqa: ARG001 - every drill is called alike
    """Run the drill."""
    examine(course, _CHECKS)
    settings = load_agent_settings()
    address = urlsplit(settings.server)
    if address.scheme == "https" and address.hostname:
        place = (address.hostname, address.port or 443)
        bare = _ask(http.client.HTTPSConnection(*place, timeout=_SECONDS, context=_context(settings.tls_ca)))
        course.check("a request without a certificate", bare, "status 401, or no connection", passed=_is_refused(bare))
        clear = _ask(http.client.HTTPConnection(*place, timeout=_SECONDS))
        course.check("a request in clear text", clear, "no answer", passed=clear.startswith("no answer"))
    if course.has_database:
        from eguard.evidence.readiness.fleet_questions import agents_without_certificate  # noqa: PLC0415 - an endpoint has no SQL

        question = agents_without_certificate(course.now())
        rows = course.rows("agents heard lately without a valid certificate", question)
        course.check("agents without a valid certificate", [row["agent_id"] for row in rows], "none", passed=not rows)


def _context(authority: Any) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=None if authority is None else str(authority))


def _ask(connection: http.client.HTTPConnection) -> str:
    try:
        connection.request("GET", _PATH)
        return f"status {connection.getresponse().status}"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {type(error).__name__}"
    finally:
        connection.close()


def _is_refused(answer: str) -> bool:
    return answer == f"status {_UNAUTHORIZED}" or (answer.startswith("no answer") and "Timeout" not in answer)

"""From a credential to a principal: the dependencies by which every route says whom it is for.

On the agents' listener the credential is the client's certificate; on the administration listener it is a bearer token
or a session's cookie. A route is reached on the listener of its dependency and is unknown on the other.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any, Final

import structlog
from fastapi import Depends
from starlette.requests import Request

from eguard.errors import ServerRefusalError
from eguard.server.context import Ctx, ServerContext
from eguard.server.listeners import ADMINISTRATION, AGENTS
from eguard.server.pki.identity import PeerCertificate
from eguard.server.principal import Principal, Role

SESSION_COOKIE: Final = "eguard_session"
CSRF_HEADER: Final = "X-Eguard-Csrf"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_log = structlog.get_logger("eguard.server")


def address_of(request: Request) -> str:
    """Return the network address of the caller."""
    return request.client.host if request.client is not None else ""


def _unknown_route() -> ServerRefusalError:
    return ServerRefusalError(404, "not_found", "there is no such route at this port")


def _listener(request: Request) -> str:
    return str(request.scope["state"].get("listener", ""))


def is_enrolling(request: Request) -> str:
    """Let a machine without a certificate in; return its address."""
    if _listener(request) != AGENTS:
        raise _unknown_route()
    return address_of(request)


async def is_agent(request: Request, context: Ctx) -> Principal:
    """Require a certificate that this fleet's authority issued and nobody revoked."""
    if _listener(request) != AGENTS:
        raise _unknown_route()
    return await _agent(request, context)


async def is_analyst(request: Request, context: Ctx) -> Principal:
    """Require somebody who may look."""
    if _listener(request) != ADMINISTRATION:
        raise _unknown_route()
    return await _person(request, context)


async def is_admin(request: Request, context: Ctx) -> Principal:
    """Require somebody who may change what concerns the fleet."""
    principal = await is_analyst(request, context)
    if not principal.is_admin:
        raise ServerRefusalError(403, "forbidden", f"{principal.role} may look, and not change")
    return principal


async def is_agent_or_analyst(request: Request, context: Ctx) -> Principal:
    """Require an agent on the agents' listener, or somebody who may look on the other."""
    if _listener(request) == AGENTS:
        return await _agent(request, context)
    return await _person(request, context)


async def is_agent_or_admin(request: Request, context: Ctx) -> Principal:
    """Require an agent on the agents' listener, or an admin on the other."""
    if _listener(request) == AGENTS:
        return await _agent(request, context)
    return await is_admin(request, context)


def is_on_administration(request: Request) -> None:
    """Let anyone in who reaches the administration listener."""
    if _listener(request) != ADMINISTRATION:
        raise _unknown_route()


EnrollingAddress = Annotated[str, Depends(is_enrolling)]
Agent = Annotated[Principal, Depends(is_agent)]
Analyst = Annotated[Principal, Depends(is_analyst)]
Admin = Annotated[Principal, Depends(is_admin)]
AgentOrAnalyst = Annotated[Principal, Depends(is_agent_or_analyst)]
AgentOrAdmin = Annotated[Principal, Depends(is_agent_or_admin)]


async def check_claim(context: ServerContext, principal: Principal, agent_id: str) -> None:
    """Refuse a body that speaks for another agent than its certificate, and put that on record.

    Raises
    ------
    ServerRefusalError
        403 ``identity_mismatch``.
    """
    if agent_id == principal.name:
        return
    await context.control(context.note_refused_identity, principal, agent_id)
    raise ServerRefusalError(
        403, "identity_mismatch", f"the certificate is {principal.name}'s, and the body speaks for {agent_id}"
    )


async def _agent(request: Request, context: ServerContext) -> Principal:
    certificate: PeerCertificate | None = request.scope["state"].get("peer_certificate")
    if certificate is None:
        raise ServerRefusalError(401, "certificate_required", "this route needs the certificate of an enrolled agent")
    facts = certificate.facts()
    if facts is None:
        raise ServerRefusalError(403, "not_an_agent", "the certificate names no agent")
    state = context.certificates.cached_state(facts.serial_hex)
    if state is None:
        state = await context.certificate_states.ask(facts.serial_hex)
    if state != "ok":
        raise ServerRefusalError(403, f"certificate_{state}", f"the certificate {facts.serial_hex} is {state}")
    return Principal(facts.agent_id, Role.AGENT, address_of(request), facts.serial_hex)


async def _person(request: Request, context: ServerContext) -> Principal:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        found = await context.control(context.access.principal_of_bearer, secret.strip())
        if found is None:
            raise _not_authenticated("the token is unknown, expired or revoked")
        return _at(found, request)
    cookie = request.cookies.get(SESSION_COOKIE, "")
    if cookie:
        session = await context.control(context.access.session_of, cookie)
        if session is None:
            raise _not_authenticated("the session has ended; sign in again")
        if request.method not in _SAFE_METHODS and not _same(request.headers.get(CSRF_HEADER, ""), session.csrf_token):
            raise ServerRefusalError(403, "csrf", f"a change by session needs the header {CSRF_HEADER}")
        return _at(session.principal, request)
    raise _not_authenticated("send a bearer token, or sign in")


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _at(principal: Principal, request: Request) -> Principal:
    return Principal(principal.name, principal.role, address_of(request), principal.credential)


def _not_authenticated(message: str) -> ServerRefusalError:
    return ServerRefusalError(401, "not_authenticated", message)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI of refusals that a route answers, besides those that every route does."""
    names = {401: "Not authenticated", 403: "Not allowed", 404: "Not found", 409: "Conflict", 413: "Too large"}
    return {status: {"description": names.get(status, "Refused")} for status in (400, 401, 403, 422, *statuses)}

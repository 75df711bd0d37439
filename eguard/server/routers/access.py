"""Signing in and out, and the tokens of programs."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final, Literal

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Depends, Path
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from eguard.errors import ServerRefusalError
from eguard.server.bodies import answer, body_schema, read_body
from eguard.server.context import Ctx
from eguard.server.identity import (
    SESSION_COOKIE,
    Admin,
    Analyst,
    address_of,
    is_on_administration,
    responses,
)
from eguard.server.principal import Role
from eguard.server.services.access_tokens import DEFAULT_DAYS, MAX_DAYS
from eguard.server.services.passwords import MAX_CHARACTERS
from eguard.server.services.sessions import ABSOLUTE_SECONDS
from eguard.wire.baseline import WireName

router = APIRouter(prefix="/api/v1", tags=["access"])

#: Passwords are slow on purpose. They have threads of their own, so that nobody who guesses keeps agents waiting.
SIGN_IN_THREADS: Final = 2
SIGN_IN_QUEUE: Final = 16


class SignIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name and password of an account."""

    name: WireName
    password: Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS)]

    def __repr__(self) -> str:
        return f"SignIn(name={self.name!r})"


class TokenRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose the token is, what it may do, and for how many days."""

    name: WireName
    role: Literal["analyst", "admin"]
    days: Annotated[float, Meta(gt=0, le=MAX_DAYS)] = DEFAULT_DAYS


@router.post(
    "/session", openapi_extra=body_schema(SignIn), responses=responses(), dependencies=[Depends(is_on_administration)]
)
async def sign_in(request: Request, context: Ctx) -> Response:
    """Begin a session. The cookie is the browser's; a change by session repeats `csrf_token` in a header."""
    body = await read_body(request, SignIn)
    work = partial(context.access.sign_in, body.name, body.password, address_of(request))
    new = await anyio.to_thread.run_sync(work, limiter=_sign_in_limiter(request))
    response = answer(
        {
            "name": new.session.principal.name,
            "role": str(new.session.principal.role),
            "csrf_token": new.session.csrf_token,
            "expires_at_unix": new.session.expires_at,
        }
    )
    _set_cookie(response, new.cookie, int(ABSOLUTE_SECONDS))
    return response


@router.get("/session", responses=responses())
async def who_am_i(request: Request, context: Ctx, principal: Analyst) -> Response:
    """Return who asks, and the session's `csrf_token` if it is one."""
    found: dict[str, Any] = {"name": principal.name, "role": str(principal.role), "credential": principal.credential}
    cookie = request.cookies.get(SESSION_COOKIE, "")
    if principal.credential == "session" and cookie:
        session = await context.control(context.access.session_of, cookie)
        if session is not None:
            found |= {"csrf_token": session.csrf_token, "expires_at_unix": session.expires_at}
    return answer(found)


@router.delete("/session", responses=responses())
async def sign_out(request: Request, context: Ctx, principal: Analyst) -> Response:
    """End the session of the cookie that was sent."""
    cookie = request.cookies.get(SESSION_COOKIE, "")
    ended = bool(cookie) and await context.control(context.access.sign_out, principal, cookie)
    response = answer({"ended": ended})
    _set_cookie(response, "", 0)
    return response


@router.get("/access/token", responses=responses())
async def list_tokens(context: Ctx, _principal: Admin) -> Response:
    """Return the tokens of programs, the latest first; never a secret."""
    return answer({"tokens": await context.control(context.access.tokens.list)})


@router.post("/access/token", status_code=201, openapi_extra=body_schema(TokenRequest), responses=responses())
async def create_token(request: Request, context: Ctx, principal: Admin) -> Response:
    """Make a token; its secret is in this answer and nowhere else."""
    body = await read_body(request, TokenRequest)
    created = await context.control(context.access.tokens.create, principal, body.name, Role(body.role), body.days)
    return answer(created, 201)


@router.delete("/access/token/{token_id}", responses=responses(404))
async def revoke_token(
    context: Ctx, principal: Admin, token_id: Annotated[str, Path(min_length=1, max_length=32)]
) -> Response:
    """End a token; it counts within five seconds on every server."""
    await context.control(context.access.tokens.revoke, principal, token_id)
    return answer({"token_id": token_id, "revoked": True})


def _sign_in_limiter(request: Request) -> CapacityLimiter:
    state = request.app.state
    if not hasattr(state, "sign_in_limiter"):
        state.sign_in_limiter = CapacityLimiter(SIGN_IN_THREADS)
    limiter: CapacityLimiter = state.sign_in_limiter
    if limiter.statistics().tasks_waiting >= SIGN_IN_QUEUE:
        raise ServerRefusalError(503, "busy", "too many people sign in at this moment; try again")
    return limiter


def _set_cookie(response: Response, value: str, max_age_seconds: int) -> None:
    response.set_cookie(
        SESSION_COOKIE, value, max_age=max_age_seconds, path="/", secure=True, httponly=True, samesite="strict"
    )

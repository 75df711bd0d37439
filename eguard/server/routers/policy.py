"""Policies: what operators post and assign, and what agents fetch."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from eguard.errors import PolicyError, ServerRefusalError
from eguard.policy import PolicyDocument, parse_policy_document
from eguard.server.bodies import answer, body_schema, read_body
from eguard.server.context import Ctx, ServerContext
from eguard.server.identity import Admin, Agent, AgentOrAdmin, check_claim, is_agent, responses
from eguard.server.listeners import AGENTS
from eguard.server.principal import Role
from eguard.server.services.policies import Target
from eguard.server.services.policy_board import MAX_WAIT_SECONDS, Waiter, WhenLost
from eguard.server.services.policy_writes import Assigned
from eguard.server.withheld import CAN_WITHHOLD, WithheldPolicy
from eguard.wire.baseline import WireName
from eguard.wire.control import PolicyKeys, ShortText

router = APIRouter(prefix="/api/v1/endpoint", tags=["policy"])

#: How agents ask: in whole seconds.
_LONG_POLL = re.compile(
    rb"revision=(?P<revision>-1|0|[1-9][0-9]{0,14})(?:&wait=(?P<wait>(?:0|[1-9][0-9]?)(?:\.[0-9]{1,6})?))?"
)

PolicyName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\A[^\x00-\x1f\x7f]+\Z")]


class PolicyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy, as in section 12.1 of the operations manual."""

    policy_id: PolicyName
    policy_version: PolicyName
    policy_json: dict[str, Any]
    reason: ShortText = ""


class AssignRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets which policy (section 12.2): an agent or a group; without a version the latest, now and later."""

    agent_id: WireName | None = None
    group: PolicyName | None = None
    policy_id: PolicyName
    policy_version: PolicyName | None = None
    reason: ShortText = ""


class WithdrawRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose assignment is taken back."""

    agent_id: WireName | None = None
    group: PolicyName | None = None
    reason: ShortText = ""


class PreviewRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy that might be posted, or only a share; for the agents of a policy or for all."""

    policy_json: dict[str, Any] | UnsetType = UNSET
    percent: float | UnsetType = UNSET
    rollout_id: PolicyName | None = None
    policy_id: PolicyName | None = None


class ReasonRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, for whoever reads the audit log."""

    reason: ShortText = ""


@router.get("/policy", responses=responses(404) | {204: {"description": "Nothing newer than `revision`"}})
async def get_policy(
    request: Request,
    context: Ctx,
    principal: AgentOrAdmin,
    *,
    agent_id: Annotated[str | None, Query(min_length=1, max_length=128)] = None,
    policy_id: Annotated[str | None, Query(min_length=1, max_length=64)] = None,
    revision: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)] = 0.0,
) -> Response:
    """Return an agent its own policy, signed, as soon as it is newer than `revision`; show an admin all of them.

    An agent may have the answer withheld for `wait` seconds; without news it is 204. An admin sees one policy with its
    history (`policy_id`), what one agent is sent (`agent_id`), or everything.
    """
    if principal.role is Role.AGENT:
        if agent_id is not None:
            await check_claim(context, principal, agent_id)
        return await _signed(context, principal.name, revision, wait, request.scope["state"].get("when_lost"))
    if agent_id is not None:
        return answer(await context.control(context.policies.explain, agent_id))
    if policy_id is not None:
        stored = await context.control(context.policies.get, policy_id)
        history = await context.control(context.policies.history, policy_id)
        return answer(stored.to_dict() | {"history": [each.to_dict() for each in history]})
    return answer(await context.control(context.policies.overview))


@router.post(
    "/policy",
    status_code=201,
    openapi_extra=body_schema(PolicyRequest),
    responses=responses(409) | {200: {"description": "The policy says that already"}},
)
async def create_policy(request: Request, context: Ctx, principal: Admin) -> Response:
    """Post a policy: 201 with its revision, 200 if that is what it says already."""
    wanted = await read_body(request, PolicyRequest)
    document = parse_policy_document(wanted.policy_json)
    stored, is_new = await context.control(
        context.policies.create, principal, wanted.policy_id, wanted.policy_version, document, wanted.reason
    )
    return answer(stored.to_dict() | {"changed": is_new}, 201 if is_new else 200)


@router.post("/policy/assign", openapi_extra=body_schema(AssignRequest), responses=responses(404))
async def assign_policy(request: Request, context: Ctx, principal: Admin) -> Response:
    """Give an agent or a group a policy."""
    wanted = await read_body(request, AssignRequest)
    assigned = Assigned(wanted.policy_id, wanted.policy_version)
    target = _target(wanted.agent_id, wanted.group)
    return answer(await context.control(context.policies.assign, principal, target, assigned, wanted.reason))


@router.post("/policy/withdraw", openapi_extra=body_schema(WithdrawRequest), responses=responses(404))
async def withdraw_policy(request: Request, context: Ctx, principal: Admin) -> Response:
    """Take an assignment back."""
    wanted = await read_body(request, WithdrawRequest)
    target = _target(wanted.agent_id, wanted.group)
    return answer(await context.control(context.policies.withdraw, principal, target, wanted.reason))


@router.post("/policy/preview", openapi_extra=body_schema(PreviewRequest), responses=responses())
async def preview_policy(request: Request, context: Ctx, _principal: Admin) -> Response:
    """Return how many agents a policy or a share would mean today, and which. Nothing is changed."""
    wanted = await read_body(request, PreviewRequest)
    document = _previewed(wanted)
    return answer(await context.control(context.policies.preview, document, wanted.rollout_id, wanted.policy_id))


@router.post("/policy/reissue", openapi_extra=body_schema(ReasonRequest), responses=responses())
async def reissue_policies(request: Request, context: Ctx, principal: Admin) -> Response:
    """Send every agent its policy anew, above any revision that an agent reports: after a restored database."""
    wanted = await read_body(request, ReasonRequest)
    return answer(await context.control(context.policies.reissue, principal, wanted.reason))


@router.post("/policy/rotate-key", openapi_extra=body_schema(ReasonRequest), responses=responses(409))
async def rotate_key(request: Request, context: Ctx, principal: Admin) -> Response:
    """Announce a new signing key to all agents; it takes over after seven days."""
    wanted = await read_body(request, ReasonRequest)
    return answer(await context.control(context.policies.rotate_key, principal, wanted.reason))


@router.get("/policy/keys", responses=responses())
async def keys(context: Ctx, _principal: Agent) -> Response:
    """Return the keys that policies are signed with, for an agent whose certificate was issued without enrolment."""
    return answer(PolicyKeys(policy_keys=await context.control(context.policies.trusted_keys)))


async def get_policy_directly(request: Request, context: ServerContext) -> Response | WithheldPolicy | None:
    """Do what `get_policy` does for an agent that asks the way agents ask; none for everybody else."""
    asked = _LONG_POLL.fullmatch(request.scope["query_string"])
    if asked is None or request.scope["state"]["listener"] != AGENTS:
        return None
    wait_seconds = float(asked["wait"] or 0)
    if wait_seconds > MAX_WAIT_SECONDS:
        return None
    principal = await is_agent(request, context)
    request.scope["headers"].clear()  # nobody reads them any more, and ten thousand agents may wait for a minute
    if not request.scope["state"].get(CAN_WITHHOLD):
        return await _signed(context, principal.name, int(asked["revision"]), wait_seconds, None)
    waiter = context.policy_board.waiter(principal.name, int(asked["revision"]), wait_seconds)
    return await _newer(context, waiter, is_woken=False)


async def _newer(context: ServerContext, waiter: Waiter, *, is_woken: bool) -> Response | WithheldPolicy:
    """Return an agent's policy if it is newer, or that it is withheld."""

    async def look() -> int:
        return int(await context.control(context.policies.revision_for, waiter.agent_id))

    is_newer = await context.policy_board.glance(waiter, look, is_woken=is_woken)
    if is_newer is None:
        return WithheldPolicy(context.policy_board, waiter, partial(_newer, context, waiter, is_woken=True))
    return answer(await context.signed_policies.ask(waiter.agent_id)) if is_newer else Response(status_code=204)


async def _signed(
    context: ServerContext, agent_id: str, revision: int, wait_seconds: float, when_lost: WhenLost | None
) -> Response:
    async def look() -> int:
        return int(await context.control(context.policies.revision_for, agent_id))

    if await context.policy_board.wait(agent_id, revision, wait_seconds, look, when_lost):
        return answer(await context.signed_policies.ask(agent_id))
    return Response(status_code=204)


def _target(agent_id: str | None, group: str | None) -> Target:
    if agent_id is not None and group is None:
        return Target("agent", agent_id)
    if group is not None and agent_id is None:
        return Target("group", group)
    raise ServerRefusalError(
        422, "invalid_body", "name an agent or a group", errors=[("agent_id", "give exactly one of agent_id and group")]
    )


def _previewed(wanted: PreviewRequest) -> PolicyDocument:
    if (wanted.policy_json is UNSET) == (wanted.percent is UNSET):
        raise PolicyError(
            "give either policy_json or percent",
            errors=[("policy_json", "give exactly one of policy_json and percent")],
        )
    if not isinstance(wanted.policy_json, UnsetType):
        return parse_policy_document(wanted.policy_json)
    both = ("baseline_upload_canary_percent", "fleet_seed_canary_percent")
    return parse_policy_document(dict.fromkeys(both, wanted.percent))

"""The kill switch under load: when uploads are refused, and when the last agent has been told."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
from collections.abc import Sequence
from typing import Any, Final

from eguard.errors import SimulationError
from eguard.simulate.load.agents import SimulatedAgent, Surroundings
from eguard.simulate.load.connection import LoadFailureError
from eguard.simulate.load.measures import Histogram
from eguard.simulate.load.place import Place

_ADMIN_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.02
_LOOK_SECONDS: Final = 0.1
#: Whoever has not been told by then is counted as not told.
_TOLD_SECONDS: Final = 120.0
_POLICY: Final = {
    "policy_id": "default",
    "policy_version": "load-test-off",
    "policy_json": {"baseline_upload_enabled": False, "fleet_seed_enabled": True},
    "reason": "kill switch of a load test",
}


async def connected_probe(around: Surroundings) -> SimulatedAgent:
    """Return one agent more that is connected before everybody else wants to be: it looks when uploads are refused."""
    probe = SimulatedAgent(around, around.options.agents)
    with contextlib.suppress(LoadFailureError):  # it tries again when it is needed
        await probe.connect()
    return probe


async def flip(
    around: Surroundings, place: Place, agents: Sequence[SimulatedAgent], probe: SimulatedAgent
) -> dict[str, Any]:
    """Switch uploads off for everybody and watch the effect.

    Returns
    -------
    dict
        Seconds from the answer to the operator: ``refused_seconds`` until an upload was refused,
        ``waiting_told_seconds`` until every agent that waited in that moment was told (None if some were not),
        ``all_told_seconds`` the same of all agents. ``probe_uploads`` were taken meanwhile from the probe.
    """
    loop = asyncio.get_running_loop()
    probing = asyncio.create_task(_until_refused(probe))
    waiting = [agent for agent in agents if agent.is_waiting]
    around.is_switched_off = True
    began = loop.time()
    revision = await asyncio.to_thread(_post_policy, place)
    committed = loop.time()
    refused, taken = await probing
    until = committed + _TOLD_SECONDS
    while loop.time() < until and any(agent.revision < revision for agent in agents):  # noqa: ASYNC110 - ten thousand
        await asyncio.sleep(_LOOK_SECONDS)
    return {
        "command_seconds": round(committed - began, 3),
        "refused_seconds": None if refused is None else round(max(0.0, refused - committed), 3),
        "probe_uploads": taken,
        "waiting": len(waiting),
        **_told("waiting_told", waiting, revision, committed),
        **_told("all_told", agents, revision, committed),
        "agents_told": sum(agent.revision >= revision for agent in agents),
    }


def _told(name: str, agents: Sequence[SimulatedAgent], revision: int, committed: float) -> dict[str, float | None]:
    times = Histogram()
    for agent in agents:
        if agent.revision >= revision and agent.informed_at is not None:
            times.add(max(0.0, agent.informed_at - committed))
    is_complete = bool(agents) and times.count == len(agents)
    return {
        f"{name}_seconds": round(times.largest, 3) if is_complete else None,
        f"{name}_p50_seconds": round(times.quantile(0.5), 3) if times.count else None,
    }


async def _until_refused(probe: SimulatedAgent) -> tuple[float | None, int]:
    """Upload until it is refused; return when that was, on the loop's clock, and how many were taken before."""
    loop = asyncio.get_running_loop()
    taken = 0
    until = loop.time() + _TOLD_SECONDS
    while loop.time() < until:
        try:
            if not probe.is_connected:
                await probe.connect()
            while await probe.upload():
                taken += 1
                await asyncio.sleep(_PAUSE_SECONDS)
        except LoadFailureError as failure:
            probe.note_failure(failure)
            probe.disconnect()
            await asyncio.sleep(1.0)
        else:
            refused = loop.time()
            probe.disconnect()
            return refused, taken
    probe.disconnect()
    return None, taken


def _post_policy(place: Place) -> int:
    """Post the policy as an operator does, and return its revision.

    Raises
    ------
    SimulationError
        The server does not take it.
    """
    context = ssl.create_default_context(cafile=str(place.authority))
    connection = http.client.HTTPSConnection(
        place.target.host, place.admin_port, context=context, timeout=_ADMIN_SECONDS
    )
    try:
        headers = {"Authorization": f"Bearer {place.admin_token}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/endpoint/policy", json.dumps(_POLICY), headers)
        answer = connection.getresponse()
        body = answer.read()
    except OSError as error:
        raise SimulationError(f"the server did not take the policy: {error}") from error
    finally:
        connection.close()
    if answer.status not in {200, 201}:
        raise SimulationError(f"the server answered {answer.status} to the policy: {body[:300]!r}")
    return int(json.loads(body)["revision"])

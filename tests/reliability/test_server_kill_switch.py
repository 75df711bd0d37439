"""From the commit of a kill switch to its effect, with fifty agents that wait for their policy."""

import asyncio
import json
import ssl
import sys
import time
from contextlib import AsyncExitStack

import pytest
from server_access import beat
from server_place import server_place

AGENTS = 50
REFUSED_SECONDS, DELIVERED_SECONDS = 1.0, 5.0
ROW = {
    "process_key": "bash:sshd",
    "event_distribution": {"process_exec": 1.0},
    "sample_count": 1,
    "entropy_threshold": 3.0,
    "learned_at_unix": 0.0,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("server")) as running:
        yield running


class Asking:
    """A connection that is kept, without a thread of its own."""

    def __init__(self, place, port, files=None, token=None):
        self._port = port
        self._context = ssl.create_default_context(cafile=str(place.authority_file))
        if files is not None:
            self._context.load_cert_chain(*files)
        self._head = f"Authorization: Bearer {token}\r\n" if token else ""

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._context)
        return self

    async def __aexit__(self, *_):
        self._writer.close()
        await self._writer.wait_closed()  # else the loop may end with the socket still open

    async def ask(self, method, path, body=None):
        """Return status, JSON and when the answer was there."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\n{self._head}Content-Length: {len(data)}\r\n\r\n"
        self._writer.write(head.encode() + data)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next((int(line[16:]) for line in lines if line.startswith(b"content-length: ")), 0)
        text = await self._reader.readexactly(length)
        return int(lines[0].split()[1]), json.loads(text) if text else None, time.monotonic()


def policy(version, **document):
    return {"policy_id": "default", "policy_version": version, "policy_json": document}


async def everybody_waits(place, agents):
    tasks = [
        asyncio.create_task(agent.ask("GET", f"/endpoint/policy?revision={revision}&wait=55"))
        for agent, revision in agents
    ]
    until = time.monotonic() + 30
    while place.context.policy_board.waiting < AGENTS:
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    return tasks


async def flip(place, files, token, record):
    async with AsyncExitStack() as stack, Asking(place, place.running.admin_port, token=token) as admin:
        agents = [await stack.enter_async_context(Asking(place, place.running.agent_port, each)) for each in files]
        revisions = [(await each.ask("GET", "/endpoint/policy"))[1]["payload"] for each in agents]
        agents = list(zip(agents, [json.loads(each)["revision"] for each in revisions], strict=True))
        tasks = await everybody_waits(place, agents)
        status, _, committed = await admin.ask("POST", "/endpoint/policy", policy("off", baseline_upload_enabled=False))
        assert status == 201
        async with Asking(place, place.running.agent_port, files[0]) as uploader:
            seq = 1
            while True:
                body = {"agent_id": "agent-0", "batch_id": "b", "baselines": [ROW | {"seq": seq}]}
                status, said, at = await uploader.ask("POST", "/endpoint/baseline/batch", body)
                if status == 403:
                    break
                seq += 1
            assert said["code"] == "baseline_upload_disabled"
            record["refused_seconds"] = at - committed
        answers = await asyncio.gather(*tasks)
        record["delivered_seconds"] = [at - committed for _, _, at in answers]
        for (status, signed, _), (_, before) in zip(answers, agents, strict=True):
            assert status == 200
            payload = json.loads(signed["payload"])
            assert payload["revision"] > before
            assert payload["policy"]["baseline_upload_enabled"] is False


def test_fifty_agents_that_wait_are_told_and_uploads_are_refused_in_time(place):
    files = []
    for number in range(AGENTS):
        files.append(place.issue(f"agent-{number}"))
        if number == 0:
            beat(place, files[0], "agent-0")
    record = {}
    asyncio.run(flip(place, files, place.token("admin"), record))
    delivered = sorted(record["delivered_seconds"])
    middle, last = delivered[AGENTS // 2], delivered[-1]
    refused = record["refused_seconds"]  # figures: pytest -rP
    sys.stdout.write(f"refused after {refused:.3f} s, delivered after {middle:.3f} s (median), {last:.3f} s (last)\n")
    assert refused < REFUSED_SECONDS
    assert delivered[-1] < DELIVERED_SECONDS

"""A server that is told to end: what it acknowledged is on disk, what waits is answered, and it is gone in time."""

import contextlib
import json
import threading
import time
from datetime import datetime
from http.client import HTTPException

import pytest
import sqlalchemy as sa
from server_access import heartbeat
from server_process import server_process

from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_baseline

pytestmark = pytest.mark.slow

BATCH = "/api/v1/endpoint/baseline/batch"
NAMES = [f"agent-{number}" for number in range(4)]
DRAIN_SECONDS = 5.0


def upload(name, number):
    row = {
        "process_key": f"p{number}:init",
        "event_distribution": {"process_exec": 1.0},
        "sample_count": 1,
        "entropy_threshold": 3.0,
        "learned_at_unix": 0.0,
        "seq": 1,
    }
    return json.dumps({"agent_id": name, "batch_id": "b", "baselines": [row]}).encode()


class Uploader:
    """Uploads one key after the other until its connection is no more, and knows which were acknowledged."""

    def __init__(self, server, name):
        self.acknowledged = set()
        self.statuses = set()
        self.error = None
        self._server, self._name = server, name
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        with contextlib.closing(self._server.connection(self._name)) as connection:
            for number in range(100_000):
                try:
                    connection.request("POST", BATCH, upload(self._name, number), {"X-Eguard-Incarnation": "i"})
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, HTTPException) as error:
                    self.error = error
                    return
                self.statuses.add(answer.status)
                if answer.status == 200:
                    self.acknowledged.add((self._name, f"p{number}:init"))


def drain_seconds(server):
    """Return what the server's own log says; how long an interpreter takes to go is not the server's matter."""
    times = {}
    for line in server.log.read_text().splitlines():
        entry = json.loads(line)
        times[entry["event"]] = datetime.fromisoformat(entry["timestamp"])
    return (times["server stopped"] - times["server is stopping"]).total_seconds()


def stored(url):
    database = Database(url)
    with database.read() as connection:
        rows = connection.execute(sa.select(endpoint_baseline.c.agent_id, endpoint_baseline.c.process_key))
        found = {(agent, key) for agent, key in rows}
    database.dispose()
    return found


def test_ending_in_mid_upload_answers_who_waits_and_loses_nothing_acknowledged(tmp_path):
    url = f"sqlite:///{tmp_path}/fleet.db"
    with server_process(tmp_path, url, [*NAMES, "waiting", "idle"]) as server:
        waiting, idle = server.connection("waiting", timeout=30), server.connection("idle", timeout=30)
        with contextlib.closing(waiting), contextlib.closing(idle):
            for name, connection in (("waiting", waiting), ("idle", idle)):
                connection.request("POST", "/api/v1/endpoint/heartbeat", heartbeat(name))
                revision = json.loads(connection.getresponse().read())["policy_revision"]
            waiting.request("GET", f"/api/v1/endpoint/policy?revision={revision}&wait=55")
            uploaders = [Uploader(server, name) for name in NAMES]
            until = time.monotonic() + 60
            while min(len(each.acknowledged) for each in uploaders) < 10:
                assert time.monotonic() < until
                time.sleep(0.01)
            _, code = server.terminate()
            assert code == 0, server.log.read_text()[-2000:]
            assert drain_seconds(server) < DRAIN_SECONDS
            answer = waiting.getresponse()
            assert answer.status == 204, "who waits for a policy is answered"
            for each in uploaders:
                each.thread.join(30)
        acknowledged = set().union(*(each.acknowledged for each in uploaders))
        assert acknowledged <= stored(url)
        # One batch an agent may have been taken in without its answer getting through.
        assert len(stored(url) - acknowledged) <= len(NAMES)
        assert set().union(*(each.statuses for each in uploaders)) <= {200, 503}
        log = server.log.read_text()
        assert "server stopped" in log
        assert "Traceback" not in log


def test_a_connection_that_drips_does_not_keep_a_server_from_ending(tmp_path):
    with server_process(tmp_path, f"sqlite:///{tmp_path}/fleet.db", ["a1"]) as server:
        dripping = server.connection("a1")
        with contextlib.closing(dripping):
            dripping.putrequest("POST", BATCH)
            dripping.putheader("Content-Length", "1000")
            dripping.endheaders()
            dripping.send(b"{")
            time.sleep(0.3)
            _, code = server.terminate()
    assert code == 0
    assert drain_seconds(server) < 3.0, "a request that is still arriving gets a second"


def test_a_second_request_to_end_changes_nothing(tmp_path):
    with server_process(tmp_path, f"sqlite:///{tmp_path}/fleet.db", ["a1"]) as server:
        server.process.terminate()
        _, code = server.terminate()
    assert code == 0

"""Every (agent, key) behind the API is a register whose version only rises, through kills of server and database.

``EGUARD_TEST_SERVER_KILLS=10`` kills the server as often on each database, so twenty times in all.
"""

import contextlib
import json
import os
import random
import threading
import time
from http.client import HTTPException

import pytest
import sqlalchemy as sa
from server_access import heartbeat
from server_process import server_process

from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_baseline

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("EGUARD_TEST_SERVER_KILLS", "2"))
AGENTS, KEYS, WRITERS, PLACES = 8, 25, 8, 100_000
NAMES = [f"agent-{number}" for number in range(AGENTS)]
BATCH = "/api/v1/endpoint/baseline/batch"
SEED = 20_260_301


class Fleet:
    """Writers that upload for all agents, and what the server acknowledged to them."""

    def __init__(self, server):
        self.server = server
        self.epoch = 0
        self.acknowledged = {}
        self.answers = {}
        self.retry_after = set()
        self.faults = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]

    def begin_epoch(self):
        """Have every agent speak from a new state folder."""
        for name in NAMES:
            with contextlib.closing(self.server.connection(name)) as connection:
                connection.request("POST", "/api/v1/endpoint/heartbeat", heartbeat(name, f"i-{self.epoch + 1}"))
                assert connection.getresponse().status == 200
        self.epoch += 1

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def known(self):
        with self._lock:
            return dict(self.acknowledged)

    def count(self, status=200):
        with self._lock:
            return self.answers.get(status, 0)

    def wait_for(self, answers, seconds=60.0, status=200):
        """Wait for so many more answers of a status."""
        wanted, deadline = self.count(status) + answers, time.monotonic() + seconds
        while self.count(status) < wanted:
            assert time.monotonic() < deadline, (self.answers, self.server.log.read_text()[-2000:])
            assert not self.faults
            time.sleep(0.01)

    def _write(self, number):
        rng = random.Random(SEED + number)
        connections, delayed, step = {}, [], 0
        while not self._stopping.is_set():
            step += 1
            epoch = self.epoch - 1 if self.epoch > 1 and rng.random() < 0.1 else self.epoch
            keys = rng.sample(range(KEYS), rng.randint(1, 6))
            # Writers' steps lie close to each other's, before and after: what arrives is out of order.
            batch = rng.choice(NAMES), epoch, [(key, step + rng.randint(0, 20)) for key in keys]
            fate = rng.random()
            if fate < 0.1:
                continue  # dropped
            if fate < 0.3:
                delayed.append(batch)
            sending = [batch] * (2 if fate > 0.8 else 1)
            if len(delayed) > 5:
                sending.append(delayed.pop(rng.randrange(len(delayed))))
            for each in sending:
                self._send(connections, *each)
        for connection in connections.values():
            connection.close()

    def _send(self, connections, name, epoch, versions):
        connection = connections.get(name)
        if connection is None:
            connection = connections[name] = self.server.connection(name)
        headers = {"X-Eguard-Incarnation": f"i-{epoch}"}
        try:
            connection.request("POST", BATCH, upload(name, epoch, versions), headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
        except (OSError, HTTPException, ValueError):  # cut by a kill: nothing is acknowledged
            connection.close()
            time.sleep(0.02)
            return
        with self._lock:
            self.answers[answer.status] = self.answers.get(answer.status, 0) + 1
            if answer.status == 200 and not said["rejected"]:
                for key, seq in versions:
                    register = name, f"p{key}:init"
                    self.acknowledged[register] = max(self.acknowledged.get(register, 0), epoch * PLACES + seq)
            elif answer.status == 503:
                self.retry_after.add(answer.getheader("Retry-After"))
            else:
                self.faults.append((answer.status, said))
        if answer.status == 503:
            time.sleep(0.05)


def upload(name, epoch, versions):
    rows = [
        {
            "process_key": f"p{key}:init",
            "event_distribution": {"process_exec": 1.0},
            "sample_count": epoch * PLACES + seq,
            "entropy_threshold": 3.0,
            "learned_at_unix": 0.0,
            "seq": seq,
        }
        for key, seq in versions
    ]
    return json.dumps({"agent_id": name, "batch_id": "b", "baselines": rows}).encode()


class Registers:
    """Reads all registers from the database and holds them to what was read and acknowledged before."""

    def __init__(self, url):
        self.database = Database(url)
        self.held = {}
        self.reads = 0

    def check(self, fleet):
        known = fleet.known()
        columns = endpoint_baseline.c
        query = sa.select(columns.agent_id, columns.process_key, columns.incarnation, columns.seq, columns.sample_count)
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        now = {}
        for agent, key, incarnation, seq, samples in rows:
            version = int(incarnation.removeprefix("i-")) * PLACES + seq
            assert samples == version, "the columns of a row are of one upload"
            now[agent, key] = version
        for register, version in self.held.items():
            assert now.get(register, 0) >= version, "nothing old comes back"
        for register, version in known.items():
            assert now.get(register, 0) >= version, "nothing acknowledged is lost"
        assert not fleet.faults
        self.held = now
        self.reads += 1


@contextlib.contextmanager
def writing(server, url):
    fleet, registers = Fleet(server), Registers(url)
    try:
        fleet.begin_epoch()
        fleet.start()
        yield fleet, registers
    finally:
        fleet.stop()
        registers.database.dispose()


def test_versions_only_rise_while_the_server_is_killed(tmp_path, database_url):
    rng = random.Random(SEED)
    with server_process(tmp_path, database_url, NAMES) as server, writing(server, database_url) as (fleet, registers):
        for kill in range(1, KILLS + 1):
            fleet.wait_for(30)
            until = time.monotonic() + rng.uniform(0.1, 0.5)
            while time.monotonic() < until:
                registers.check(fleet)
            server.kill()
            registers.check(fleet)
            server.start()
            registers.check(fleet)
            if kill % 2:
                fleet.begin_epoch()
        fleet.wait_for(200)
        fleet.stop()
        _, code = server.terminate()
        registers.check(fleet)
        assert code == 0
        assert set(fleet.answers) <= {200, 503}
        assert len(registers.held) >= 0.9 * AGENTS * KEYS
        assert registers.reads > 3 * KILLS
    assert_tidy_log(server)


def test_a_database_server_killed_in_mid_batch_costs_nothing_acknowledged(tmp_path, mariadb, mariadb_url):
    with server_process(tmp_path, mariadb_url, NAMES) as server, writing(server, mariadb_url) as (fleet, registers):
        for _ in range(2):
            fleet.wait_for(50)
            mariadb.kill()
            try:
                fleet.wait_for(10, seconds=30, status=503)
                assert status_of(server, "/healthz") == 200
                assert status_of(server, "/readyz") == 503
            finally:
                mariadb.start()
            registers.check(fleet)
            began = time.monotonic()
            fleet.wait_for(20, seconds=20)
            assert time.monotonic() - began < 15, "it recovers by itself"
            registers.check(fleet)
            assert status_of(server, "/readyz") == 200
        assert fleet.retry_after == {"5"}
        fleet.stop()
        registers.check(fleet)
        _, code = server.terminate()
        assert code == 0
    assert_tidy_log(server)


def status_of(server, path):
    with contextlib.closing(server.connection()) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def assert_tidy_log(server):
    """What a kill leaves behind is no surprise to the server, and no password gets into its log."""
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "canary-of-the-database" not in log

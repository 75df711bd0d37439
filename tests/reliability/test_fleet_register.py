"""Every (agent, key) of the fleet store is a register whose version only rises, whoever is killed while writing."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from eguard.fleet import FleetStore
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_baseline

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("fleet_writer.py")
AGENTS, REGISTERS, PLACES, KILLS, WRITERS = 8, 200, 100_000, 4, 8


class Writer:
    """A process that uploads, and what it says was acknowledged."""

    def __init__(self, url, epoch, threads, acknowledged):
        self.acknowledged = acknowledged
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), url, str(epoch), str(1000 + epoch), str(threads)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = 0
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self):
        for line in self.process.stdout:
            if not line.endswith("\n"):
                break  # cut by the kill
            for agent, key, version in json.loads(line):
                register = agent, key
                self.acknowledged[register] = max(self.acknowledged.get(register, 0), version)
            self.lines += 1

    def wait_for_answers(self, lines):
        deadline = time.monotonic() + 60
        while self.lines < lines and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.lines >= lines, self.process.stderr.read() if self.process.poll() is not None else "no answers"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._listener.join()
        self.process.stdout.close()
        self.process.stderr.close()


class Registers:
    """Reads all registers and holds them to what was read and acknowledged before."""

    def __init__(self, database):
        self.database = database
        self.held = {}
        self.reads = 0

    def check(self, acknowledged):
        known = dict(acknowledged)
        columns = endpoint_baseline.c
        query = sa.select(columns.agent_id, columns.process_key, columns.incarnation, columns.seq, columns.sample_count)
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        now = {}
        for agent, key, incarnation, seq, samples in rows:
            version = int(incarnation.removeprefix("incarnation-")) * PLACES + seq
            assert samples == version, "the columns of a row are of one upload"
            now[agent, key] = version
        for register, version in self.held.items():
            assert now.get(register, 0) >= version, "nothing old comes back"
        for register, version in known.items():
            assert now.get(register, 0) >= version, "nothing acknowledged is lost"
        self.held = now
        self.reads += 1


@pytest.fixture
def writers():
    started = []
    yield started
    for writer in started:
        if writer.process.poll() is None:
            writer.kill()


def test_versions_only_rise_through_duplicates_late_batches_and_kills(migrated_database_url, writers):
    url = migrated_database_url
    is_server = not url.startswith("sqlite")
    store, database, acknowledged = FleetStore(url), Database(url), {}
    registers, rng = Registers(database), random.Random(20260301)
    for epoch in range(1, KILLS + 2):
        for agent in range(AGENTS):
            store.register_agent(f"agent-{agent}", f"incarnation-{epoch}")
        # A server takes two processes at once: the older one is killed once the younger one writes too.
        writer = Writer(url, epoch, WRITERS // 2 if is_server else WRITERS, acknowledged)
        writers.append(writer)
        writer.wait_for_answers(1)
        enough = writer.lines + rng.randint(40, 80)
        deadline = time.monotonic() + 60
        while writer.lines < enough and time.monotonic() < deadline:
            registers.check(acknowledged)
        if not is_server or epoch > 1:
            victim = writers[-2] if is_server else writer
            victim.kill()
            registers.check(acknowledged)
    for writer in writers:
        if writer.process.poll() is None:
            writer.kill()
    registers.check(acknowledged)
    store.close()
    database.dispose()
    assert len(registers.held) >= 0.75 * REGISTERS
    assert registers.reads > 2 * KILLS
    assert sum(writer.lines for writer in writers) >= 40 * KILLS

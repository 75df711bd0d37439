"""What happens on the way of every upload and heartbeat, counted in memory and kept by the minute.

A request adds to numbers; a thread writes them down once a minute, as what this server counted in each five minutes.
A number is written whole, so that writing it twice changes nothing, and servers on one database do not meet. A server
that is killed loses its last minute.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Final

import sqlalchemy as sa
import structlog

from eguard.clock import Clock
from eguard.errors import FleetStoreError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, signal_count
from eguard.fleet.upsert import upsert

BUCKET_SECONDS: Final = 300
FLUSH_SECONDS: Final = 60.0
#: How long an agent that was handed seeds counts as one that asked for them.
ASKED_SECONDS: Final = 86_400.0

ACCEPTED_ROWS: Final = "accepted_rows"
REJECTS: Final = "rejects"
UPLOAD_AGENTS: Final = "upload_agents"
ROWS_APPLIED: Final = "rows_applied"
KEYS_ASKED: Final = "keys_asked"
KEYS_APPLIED: Final = "keys_applied"
SEEDS_FETCHED: Final = "seeds_fetched"
STALE_TRANSITIONS: Final = "stale_transitions"
TREES_SEEN: Final = "trees_seen"
TREES_ANOMALOUS: Final = "trees_anomalous"
NAMES: Final = (
    ACCEPTED_ROWS,
    REJECTS,
    UPLOAD_AGENTS,
    ROWS_APPLIED,
    KEYS_ASKED,
    KEYS_APPLIED,
    SEEDS_FETCHED,
    STALE_TRANSITIONS,
    TREES_SEEN,
    TREES_ANOMALOUS,
)

#: In one transaction: uploads wait for it.
_AGENTS_AT_ONCE: Final = 200
_agent = endpoint_agent.c
_log = structlog.get_logger("eguard.server")


def bucket_of(unix: float) -> int:
    """Return the beginning of the five minutes that a time falls into."""
    return int(unix // BUCKET_SECONDS) * BUCKET_SECONDS


class SignalCounts:
    """What one server counted.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Tells into which five minutes something falls.
    server_id : str
        Name of this process among the servers on the database.
    """

    def __init__(self, database: Database, clock: Clock, server_id: str) -> None:
        self._database = database
        self._clock = clock
        self._server_id = server_id
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._values: dict[tuple[int, str], int] = {}
        self._uploaders: dict[int, set[str]] = {}
        self._uploaded: set[str] = set()
        self._fetched: set[str] = set()
        self._asked: dict[str, float] = {}
        self._looked_at: float | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, counts: Mapping[str, int]) -> None:
        """Count something that happened now."""
        bucket = bucket_of(self._clock.now())
        with self._lock:
            self._add(bucket, counts)

    def uploaded(self, agent_id: str, *, accepted: int, rejected: int, rows: int, seeded: int) -> None:
        """Count an upload.

        Parameters
        ----------
        agent_id : str
            Whose.
        accepted, rejected : int
            Rows that were stored, and that were refused.
        rows, seeded : int
            Rows that could be read, and those of them that hold a seed.
        """
        now = self._clock.now()
        bucket = bucket_of(now)
        with self._lock:
            self._uploaders.setdefault(bucket, set()).add(agent_id)
            self._uploaded.add(agent_id)
            self._add(bucket, {ACCEPTED_ROWS: accepted, REJECTS: rejected, ROWS_APPLIED: seeded})
            if now - self._asked.get(agent_id, -ASKED_SECONDS) < ASKED_SECONDS:
                self._add(bucket, {KEYS_ASKED: rows, KEYS_APPLIED: seeded})

    def handed_out(self, agent_id: str, rows: int) -> None:
        """Count seeds that an agent was handed."""
        now = self._clock.now()
        with self._lock:
            self._asked[agent_id] = now
            self._fetched.add(agent_id)
            self._add(bucket_of(now), {SEEDS_FETCHED: rows})

    def start(self) -> None:
        """Begin to write down what is counted."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="signal-counts", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write down the rest, and end."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            thread.join()

    def flush(self) -> None:
        """Write down everything up to now.

        Raises
        ------
        FleetStoreError
            The database refused; nothing is lost, the next time writes it all.
        """
        with self._flushing:
            now = self._clock.now()
            current = bucket_of(now)
            with self._lock:
                self._add(current, {})
                for bucket, agents in self._uploaders.items():
                    self._values[bucket, UPLOAD_AGENTS] = len(agents)
                values = dict(self._values)
                uploaded, self._uploaded = self._uploaded, set()
                fetched, self._fetched = self._fetched, set()
            try:
                self._write(values, {"last_upload_at": uploaded, "last_seed_at": fetched}, now)
            except FleetStoreError:
                with self._lock:
                    self._uploaded |= uploaded
                    self._fetched |= fetched
                raise
            with self._lock:
                # Nothing is added to five minutes that are over, and those before were written.
                self._values = {key: value for key, value in self._values.items() if key[0] >= current}
                self._uploaders = {bucket: each for bucket, each in self._uploaders.items() if bucket >= current}

    def _add(self, bucket: int, counts: Mapping[str, int]) -> None:
        if (bucket, ACCEPTED_ROWS) not in self._values:  # a zero says that somebody counted and there was none
            self._values.update(((bucket, name), 0) for name in NAMES)
        for name, value in counts.items():
            self._values[bucket, name] += value

    def _write(self, values: Mapping[tuple[int, str], int], seen: Mapping[str, Collection[str]], now: float) -> None:
        rows = [
            {"bucket_at": float(bucket), "name": name, "server_id": self._server_id, "value": value}
            for (bucket, name), value in sorted(values.items())
        ]

        self._database.retrying(
            lambda connection: connection.execute(upsert(signal_count, ["bucket_at", "name", "server_id"]), rows),
            is_idempotent=True,
        )
        for columns, agents in _by_columns(seen):
            names = sorted(agents)
            for start in range(0, len(names), _AGENTS_AT_ONCE):
                self._note_seen(columns, names[start : start + _AGENTS_AT_ONCE], now)
        # Who asked another server, or this one before it was started anew.
        since = now - ASKED_SECONDS if self._looked_at is None else self._looked_at - 2.0 * FLUSH_SECONDS
        asked = sa.select(_agent.agent_id, _agent.last_seed_at).where(_agent.last_seed_at >= since)
        with self._database.read() as connection:
            found = [(row.agent_id, row.last_seed_at) for row in connection.execute(asked)]
        self._looked_at = now
        with self._lock:
            for agent_id, at in found:
                self._asked[agent_id] = max(at, self._asked.get(agent_id, at))
            oldest = now - ASKED_SECONDS
            self._asked = {agent_id: at for agent_id, at in self._asked.items() if at > oldest}

    def _note_seen(self, columns: tuple[str, ...], names: list[str], now: float) -> None:
        """Write down when some agents were seen: few enough that an upload need not wait for long in between."""
        change = sa.update(endpoint_agent).where(_agent.agent_id.in_(names)).values(dict.fromkeys(columns, now))
        self._database.retrying(lambda connection: connection.execute(change), is_idempotent=True)

    def _run(self) -> None:
        is_last = False
        while True:
            try:
                self.flush()
            except FleetStoreError as error:
                _log.warning("counts wait for the database", reason=error.context.get("reason"))
            if is_last:
                return
            is_last = self._stopping.wait(FLUSH_SECONDS)


def _by_columns(seen: Mapping[str, Collection[str]]) -> list[tuple[tuple[str, ...], set[str]]]:
    """Return which agents have which columns to be written: a row with several is written once."""
    columns: dict[str, tuple[str, ...]] = {}
    for column, agents in seen.items():
        for agent_id in agents:
            columns[agent_id] = (*columns.get(agent_id, ()), column)
    groups: dict[tuple[str, ...], set[str]] = {}
    for agent_id, each in columns.items():
        groups.setdefault(each, set()).add(agent_id)
    return list(groups.items())

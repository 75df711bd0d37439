"""The stores that one suite runs against (a further database is one more entry), and a fleet that talks to them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import numpy as np
import pytest

from eguard.clock import Clock, SimulatedClock
from eguard.fleet import FleetStore
from eguard.wire import (
    BaselineBatch,
    BaselineRow,
    distribution_from_vector,
    encode_baseline_batch,
    entropy_threshold,
    receive_baseline_batch,
)

StoreFactory = Callable[[], FleetStore]


@pytest.fixture
def clock() -> Clock:
    return SimulatedClock(1_772_000_000.0)


@pytest.fixture(params=["sqlite-file", "sqlite-memory", "mariadb"])
def store_factory(request, tmp_path, clock) -> Iterator[StoreFactory]:
    """Return a function that makes a new, empty, migrated store; all of them are closed at the end."""
    with ExitStack() as opened:
        numbers = count()
        server = request.getfixturevalue("mariadb") if request.param == "mariadb" else None

        def make() -> FleetStore:
            if server is not None:
                url = server.url(opened.enter_context(server.migrated_database()))
            elif request.param == "sqlite-memory":
                url = "sqlite://"
            else:
                path = shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / f"fleet-{next(numbers)}.db")
                url = f"sqlite:///{path}"
            return opened.enter_context(FleetStore.create(url, clock))

        yield make


@pytest.fixture
def store(store_factory) -> FleetStore:
    return store_factory()


class FleetDriver:
    """Agents that upload the way agents do: encoded, decoded, stored."""

    def __init__(self, store: FleetStore) -> None:
        self.store = store

    def upload(self, agent, *rows, incarnation="first"):
        """Send one batch of one agent."""
        body = encode_baseline_batch(BaselineBatch(agent_id=agent, batch_id="b", baselines=list(rows)))
        return self.store.upsert_received(incarnation, receive_baseline_batch(body))

    def upload_all(self, agents, *rows):
        """Let every agent send the same rows."""
        for agent in agents:
            self.upload(agent, *rows)

    def published(self, generation=None):
        """Return the published rows by key."""
        return {row.process_key: row for row in self.store.fleet_rows(generation)}

    @staticmethod
    def tally(result):
        """Return (accepted, unchanged, stale, rejected)."""
        return result.accepted, result.unchanged, result.stale, len(result.rejected)


@pytest.fixture
def fleet(store) -> FleetDriver:
    return FleetDriver(store)


@pytest.fixture
def drive() -> Callable[[FleetStore], FleetDriver]:
    """Return what makes a fleet for another store."""
    return FleetDriver


@pytest.fixture
def row() -> Callable[..., BaselineRow]:
    """Return what makes a row from counts."""

    def make(key="bash:sshd", counts=(60, 40, 0, 0, 0, 0, 0, 0), seq=1, **changes):
        total = sum(counts)
        values = {
            "process_key": key,
            "event_distribution": distribution_from_vector(np.array(counts) / total),
            "sample_count": total,
            "entropy_threshold": entropy_threshold(total),
            "learned_at_unix": 1_771_000_000.0,
            "seq": seq,
        }
        return BaselineRow(**{**values, **changes})

    return make

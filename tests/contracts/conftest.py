"""The stores that one suite runs against; a further database is one more entry."""

from collections.abc import Callable, Iterator

import pytest

from eguard.clock import Clock, SimulatedClock
from eguard.fleet import FleetStore

StoreFactory = Callable[[], FleetStore]


@pytest.fixture
def clock() -> Clock:
    return SimulatedClock(1_772_000_000.0)


@pytest.fixture(params=["sqlite-file", "sqlite-memory"])
def store_factory(request, tmp_path, clock) -> Iterator[StoreFactory]:
    """Return a function that makes a new, empty, migrated store; all of them are closed at the end."""
    stores: list[FleetStore] = []

    def make() -> FleetStore:
        is_memory = request.param == "sqlite-memory"
        url = "sqlite://" if is_memory else f"sqlite:///{tmp_path}/fleet-{len(stores)}.db"
        stores.append(FleetStore.create(url, clock))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(store_factory) -> FleetStore:
    return store_factory()

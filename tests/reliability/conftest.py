"""The judge, the failing disk, and the states that the seeded workload goes through."""

import importlib.util
import sys
from pathlib import Path

import pytest

from eguard.baseline.exercise import EXERCISE_CAPACITY, exercise
from eguard.baseline.store import BaselineStore
from eguard.baseline.store_dump import dump_state
from eguard.clock import SimulatedClock

HERE = Path(__file__).parent


def _load(name):
    full_name = f"eguard_reliability_{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(full_name, HERE / f"{name}.py")
        sys.modules[full_name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full_name])
    return sys.modules[full_name]


crash_disk, page_reader = _load("crash_disk"), _load("page_reader")


@pytest.fixture(scope="session")
def disk():
    """Return the module with `CrashDisk` and `PowerCutError`."""
    return crash_disk


@pytest.fixture(scope="session")
def judge():
    """Return the reader that was written from the format page."""
    return page_reader.read_folder


def state_of(store):
    return dump_state(store.table, store.facts) | {"operation": store.operation}


@pytest.fixture(scope="session")
def open_store():
    """Return what opens a store of the workload's size on a disk; the clock stands still."""

    def open_on(files, capacity=EXERCISE_CAPACITY):
        return BaselineStore(files, capacity, SimulatedClock(0.0))

    return open_on


@pytest.fixture(scope="session")
def expected_states(open_store):
    """Return the states after 0, 1, 2, ... operations of workload 0, from a run that nothing disturbs."""
    store = open_store(crash_disk.CrashDisk())
    states = [state_of(store)]
    for _ in range(120):
        exercise(store, 1, seed=0)
        states.append(state_of(store))
    return states


@pytest.fixture(scope="session")
def state_in():
    """Return what gives the state of an open store."""
    return state_of

"""A seeded workload for a store: every kind of operation, the same ones in the same order wherever it is run.

Operation number i depends on the seed, on i and on the state before it, and on nothing else. So whoever kills the
process at any moment knows what the folder has to hold: the state after some number of operations, no fewer than were
acknowledged and no more than were started.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from eguard.baseline.facts import BaselineStatus
from eguard.baseline.store import BaselineStore

#: Slots of an exercised store: few, so that profiles are evicted all the time.
EXERCISE_CAPACITY: Final = 24
_N_COMMS: Final = 40
_START_UNIX: Final = 1_700_000_000.0
_COMPACT_EVERY: Final = 16


def exercise(
    store: BaselineStore, n_operations: int, seed: int, announce: Callable[[str, int], None] | None = None
) -> None:
    """Do the next `n_operations` of the workload `seed`, each durable before the next begins.

    Parameters
    ----------
    store : BaselineStore
        Continues after the operations it holds already.
    n_operations : int
        How many.
    seed : int
        Names the workload.
    announce : callable, optional
        Called with ("START", i) before and ("ACK", i) after operation i is durable.
    """
    for number in range(store.operation + 1, store.operation + 1 + n_operations):
        if announce:
            announce("START", number)
        if number % _COMPACT_EVERY == 0:
            store.compact()
        perform(store, number, np.random.default_rng([seed, number]))
        store.sync()
        if announce:
            announce("ACK", number)


def perform(store: BaselineStore, number: int, rng: np.random.Generator) -> None:
    """Do operation `number`: exactly one, whatever its kind."""
    kinds = (
        (0.60, _learn),
        (0.68, _acknowledge),
        (0.74, _seed),
        (0.78, _withdraw),
        (0.83, _hold),
        (0.88, _adjudicate),
        (0.92, _relearn),
        (0.96, _set_status),
        (1.00, _set_policy_revision),
    )
    drawn = rng.random()
    next(operation for below, operation in kinds if drawn < below)(store, number, rng)


def _keys(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    chosen = np.minimum(rng.geometric(0.08, count), _N_COMMS)
    return [(f"comm{index:02d}", "sh" if index % 3 else "kworker/0:1") for index in chosen.tolist()]


def _learn(store: BaselineStore, number: int, rng: np.random.Generator) -> None:
    size = int(rng.integers(1, 12))
    times = _START_UNIX + 10.0 * number + np.sort(rng.uniform(0.0, 10.0, size))
    payload = rng.integers(0, 2, size) * rng.integers(1, 5_000, size)
    store.learn(_keys(rng, size), rng.integers(0, 8, size), times, payload)


def _acknowledge(store: BaselineStore, number: int, rng: np.random.Generator) -> None:  # noqa: ARG001 - one form for all
    slots = store.table.dirty_slots()[:5].tolist()
    store.acknowledge(
        [store.table.index.key_of(slot) for slot in slots], [int(store.table.seq[slot]) for slot in slots]
    )


def _seed(store: BaselineStore, number: int, rng: np.random.Generator) -> None:
    keys = dict.fromkeys([*_keys(rng, 6), ("comm01", "fleet")])
    store.seed({key: rng.dirichlet(np.ones(8)) for key in keys}, generation=number)


def _withdraw(store: BaselineStore, number: int, rng: np.random.Generator) -> None:  # noqa: ARG001 - one form for all
    store.withdraw_seeds()


def _hold(store: BaselineStore, number: int, rng: np.random.Generator) -> None:
    (key,) = _keys(rng, 1)
    at = _START_UNIX + 10.0 * number
    slots = store.table.slots_for([key], np.array([at]))
    store.table.held.hold(f"window-{number}", key, rng.integers(0, 50, 8), at)
    store.record(slots)


def _adjudicate(store: BaselineStore, number: int, rng: np.random.Generator) -> None:  # noqa: ARG001 - one form for all
    waiting = store.table.held.items()
    window_id = waiting[int(rng.integers(len(waiting)))][0] if waiting else "none"
    store.adjudicate(window_id, is_benign=bool(rng.random() < 0.5))


def _relearn(store: BaselineStore, number: int, rng: np.random.Generator) -> None:
    used = store.table.index.used()
    if not len(used):
        _learn(store, number, rng)
        return
    slot = int(rng.choice(used))
    store.table.relearn(slot, _START_UNIX + 10.0 * number)
    store.touch([slot])


def _set_status(store: BaselineStore, number: int, rng: np.random.Generator) -> None:
    status = BaselineStatus(int(rng.integers(3)))
    store.set_status(status, learning_started=_START_UNIX, learning_completed=_START_UNIX + number)


def _set_policy_revision(store: BaselineStore, number: int, rng: np.random.Generator) -> None:  # noqa: ARG001 - one form
    store.set_policy_revision(number)

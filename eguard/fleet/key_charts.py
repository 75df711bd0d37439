"""The detectors of single process keys: thousands of series, advanced together and kept in a few rows.

Every key has the manual's plain ADWIN on its divergence from the generation before, and the level rule on its
divergence from the pinned reference. ADWIN's windows are one bank of arrays; the database holds them in blocks of keys,
so that a cycle reads and writes some dozens of rows however many keys there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from eguard.estimators import AdwinBank
from eguard.fleet.charts import ADWIN_DELTA, JS_MAX_NATS, LEVEL_CYCLES, LEVEL_NATS, PREVIOUS, REFERENCE, Finding
from eguard.fleet.ingest import key_shard
from eguard.fleet.tables import fleet_drift_block
from eguard.fleet.upsert import upsert

Floats = NDArray[np.float64]

#: Layout of a block's rows: generation last seen, cycles above the level, then the window's own state.
BLOCK_VERSION: Final = 1
_HEAD: Final = 2
_SHARDS_A_BLOCK: Final = 4
#: The level rule holds a key against the reference from so many voters on: with fewer, one agent that comes or goes
#: moves a median that far.
LEVEL_MIN_AGENTS: Final = 10
#: A key that was not published for so many generations is forgotten.
FORGET_GENERATIONS: Final = 120


class KeyMeasured(NamedTuple):
    """What one generation says of the keys that it shares with another, all of the same length.

    Attributes
    ----------
    keys : list of str
        Sorted.
    js_nats, bias_nats : ndarray of float64
    agents : ndarray of int64
        Voters behind each key, the fewer of the two sides.
    """

    keys: list[str]
    js_nats: Floats
    bias_nats: Floats
    agents: NDArray[np.int64]


class KeyFinding(NamedTuple):
    """What a detector found on one key."""

    process_key: str
    compared_with: str
    finding: Finding


class KeyCharts:
    """The charts of every key, in memory for one cycle.

    Parameters
    ----------
    keys : list of str
        Series known so far.
    rows : ndarray of shape (keys, columns)
        Their states, in the layout of `BLOCK_VERSION`.
    """

    def __init__(self, keys: list[str], rows: Floats) -> None:
        self._at: dict[str, int] = {key: at for at, key in enumerate(keys)}
        self._rows = rows if len(keys) else np.zeros((0, _HEAD + AdwinBank(1).state().shape[1]))

    def update(self, generation: int, previous: KeyMeasured, reference: KeyMeasured) -> list[KeyFinding]:
        """Take one cycle's divergences and return what they raise, keys in order."""
        self._make_room({*previous.keys, *reference.keys})
        found = self._adwin(previous) + self._level(reference)
        seen = [self._at[key] for key in {*previous.keys, *reference.keys}]
        self._rows[seen, 0] = generation
        return sorted(found, key=lambda each: (each.process_key, each.compared_with))

    def pause(self) -> None:
        """Pass over a generation that an operator published."""
        self._rows[:, 1] = 0.0

    def blocks(self, oldest: int) -> Iterator[tuple[int, list[str], Floats]]:
        """Yield every block with its keys, without those that were not seen since the generation `oldest`."""
        kept: dict[int, list[str]] = {}
        for key in sorted(self._at):
            if self._rows[self._at[key], 0] >= oldest:
                kept.setdefault(key_shard(key) // _SHARDS_A_BLOCK, []).append(key)
        for block, keys in sorted(kept.items()):
            yield block, keys, self._rows[[self._at[key] for key in keys]]

    def _make_room(self, keys: set[str]) -> None:
        fresh = sorted(keys - self._at.keys())
        self._at |= {key: at for at, key in enumerate(fresh, len(self._at))}
        self._rows = np.pad(self._rows, ((0, len(fresh)), (0, 0)))

    def _adwin(self, measured: KeyMeasured) -> list[KeyFinding]:
        if not self._at:
            return []
        bank = AdwinBank(len(self._at), ADWIN_DELTA)
        bank.restore(self._rows[:, _HEAD:])
        values = np.full(len(self._at), np.nan)
        places = [self._at[key] for key in measured.keys]
        values[places] = np.minimum(measured.js_nats / JS_MAX_NATS, 1.0)
        before = bank.mean
        cut = bank.update(values)
        after = bank.mean
        risen = cut & (after > before)
        self._rows = np.concatenate((self._rows[:, :_HEAD], bank.state()), axis=1)
        return [
            KeyFinding(key, PREVIOUS, Finding("adwin", float(after[at]) * JS_MAX_NATS, float(before[at]) * JS_MAX_NATS))
            for key, at in zip(measured.keys, places, strict=True)
            if risen[at]
        ]

    def _level(self, measured: KeyMeasured) -> list[KeyFinding]:
        excess = measured.js_nats - measured.bias_nats
        is_above = (excess > LEVEL_NATS) & (measured.agents >= LEVEL_MIN_AGENTS)
        above = np.zeros(len(self._at))
        places = [self._at[key] for key in measured.keys]
        above[places] = np.where(is_above, self._rows[places, 1] + 1.0, 0.0)
        self._rows[:, 1] = above
        return [
            KeyFinding(key, REFERENCE, Finding("js_level", float(excess[i]), LEVEL_NATS))
            for i, (key, at) in enumerate(zip(measured.keys, places, strict=True))
            if above[at] >= LEVEL_CYCLES
        ]


def read_key_charts(connection: sa.Connection) -> KeyCharts:
    """Return the stored charts; blocks that another version of this program wrote are left out."""
    block = fleet_drift_block.c
    query = sa.select(block.process_keys, block.state).where(block.version == BLOCK_VERSION).order_by(block.block)
    keys: list[str] = []
    parts: list[Floats] = []
    for names, state in connection.execute(query):
        here = msgspec.json.decode(names, type=list[str])
        keys += here
        parts.append(np.frombuffer(state, dtype="<f8").reshape(len(here), -1))
    columns = max((part.shape[1] for part in parts), default=0)
    rows = np.zeros((len(keys), columns))
    at = 0
    for part in parts:  # a block whose windows are short has fewer columns
        rows[at : at + len(part), : part.shape[1]] = part
        at += len(part)
    return KeyCharts(keys, rows)


def write_key_charts(connection: sa.Connection, charts: KeyCharts, generation: int) -> None:
    """Store the charts as they are after a generation."""
    values: list[Mapping[str, Any]] = [
        {
            "block": block,
            "version": BLOCK_VERSION,
            "generation": generation,
            "process_keys": msgspec.json.encode(keys).decode(),
            "state": rows.astype("<f8").tobytes(),
        }
        for block, keys, rows in charts.blocks(generation - FORGET_GENERATIONS)
    ]
    if values:
        connection.execute(upsert(fleet_drift_block, ["block"]), values)
    stale = fleet_drift_block.c.block.not_in([value["block"] for value in values])
    connection.execute(sa.delete(fleet_drift_block).where(stale))

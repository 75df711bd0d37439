"""From profiles to upload bodies: own counts only, oldest change first, split to fit the caps."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from eguard.baseline.moments import MomentColumns
from eguard.baseline.profile import ProfileTable
from eguard.wire.baseline import (
    MAX_BATCH_BYTES,
    MAX_TIME_UNIX,
    BaselineBatch,
    BaselineRow,
    ContinuousMoments,
    Moments,
    encode_baseline_batch,
    entropy_threshold,
    row_problem,
)
from eguard.wire.distribution import distribution_from_vector
from eguard.wire.process_key import MAX_PROCESS_KEY_CHARACTERS, encode_process_key

#: Profiles in one upload.
BATCH_PROFILES: Final = 128
# Braces, names and separators around the rows of a batch, with room to spare.
_ENVELOPE_BYTES: Final = 512


class PackedUploads(NamedTuple):
    """Upload bodies in the order to send them, and the rows that no body can carry."""

    bodies: list[bytes]
    unsendable: list[BaselineRow]


def to_wire(table: ProfileTable, slots: NDArray[np.intp] | None = None) -> list[BaselineRow]:
    """Return the rows of `slots`, or of all dirty profiles, oldest change first.

    A profile without events of its own has nothing to say and is left out, seed or not.

    Examples
    --------
    >>> table = ProfileTable(capacity=4)
    >>> times = np.array([100.0, 160.0])
    >>> slots = table.slots_for([("sh", "cron"), ("sh", "cron")], times)
    >>> table.observe(slots, np.array([0, 3]), times, np.array([0, 0]))
    >>> to_wire(table)[0].event_distribution
    {'process_exec': 0.5, 'network_connect': 0.5}
    """
    chosen = table.dirty_slots() if slots is None else slots
    return [_row(table, slot) for slot in chosen.tolist() if table.sample_count[slot] > 0]


def pack_uploads(
    agent_id: str,
    rows: list[BaselineRow],
    max_rows: int = BATCH_PROFILES,
    max_bytes: int = MAX_BATCH_BYTES,
) -> PackedUploads:
    """Split `rows` into bodies of at most `max_rows` profiles and `max_bytes` bytes.

    A row that the wire cannot carry (larger than a whole body, a key beyond its length) is set aside and holds up
    nobody else. A batch is named after its highest sequence number, so that a retry of the same rows has the same name.
    """
    bodies: list[bytes] = []
    unsendable: list[BaselineRow] = []
    batch: list[BaselineRow] = []
    batch_bytes = _ENVELOPE_BYTES
    for row in rows:
        row_bytes = len(msgspec.json.encode(row)) + 1
        too_long = len(row.process_key) > MAX_PROCESS_KEY_CHARACTERS
        if too_long or _ENVELOPE_BYTES + row_bytes > max_bytes or row_problem(row) is not None:
            unsendable.append(row)
            continue
        if batch and (len(batch) == max_rows or batch_bytes + row_bytes > max_bytes):
            bodies.append(_encode(agent_id, batch))
            batch, batch_bytes = [], _ENVELOPE_BYTES
        batch.append(row)
        batch_bytes += row_bytes
    if batch:
        bodies.append(_encode(agent_id, batch))
    return PackedUploads(bodies, unsendable)


def _encode(agent_id: str, rows: list[BaselineRow]) -> bytes:
    batch_id = f"seq-{max(row.seq for row in rows)}-{len(rows)}"
    return encode_baseline_batch(BaselineBatch(agent_id=agent_id, batch_id=batch_id, baselines=rows))


def _row(table: ProfileTable, slot: int) -> BaselineRow:
    sample_count = int(table.sample_count[slot])
    interarrival = _moments(table.interarrival, slot)
    payload = _moments(table.payload, slot)
    has_continuous = interarrival is not None or payload is not None
    return BaselineRow(
        process_key=encode_process_key(*table.index.key_of(slot)),
        event_distribution=distribution_from_vector(table.counts[slot] / sample_count),
        sample_count=sample_count,
        entropy_threshold=entropy_threshold(sample_count),
        learned_at_unix=float(np.clip(np.nan_to_num(table.last_learned[slot]), 0.0, MAX_TIME_UNIX)),
        seq=int(table.seq[slot]),
        continuous=ContinuousMoments(interarrival=interarrival, payload=payload) if has_continuous else None,
        prior_generation=int(table.prior_generation[slot]) or None,
    )


def _moments(columns: MomentColumns, slot: int) -> Moments | None:
    count = int(columns.count[slot])
    if count == 0:
        return None
    return Moments(count=count, mean=float(columns.mean[slot]), m2=float(columns.m2[slot]))

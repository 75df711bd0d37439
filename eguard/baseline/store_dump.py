"""The logical state of a store as plain values, and what a look at its files finds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from eguard.baseline.facts import StoreFacts
from eguard.baseline.moments import MomentColumns
from eguard.baseline.profile import ProfileTable
from eguard.baseline.recovery import Recovered, recover
from eguard.baseline.system_files import SystemFiles
from eguard.wire.process_key import encode_process_key

_LOOKS: Final = 3


def read_store(folder: Path) -> tuple[Recovered, dict[str, Any]]:
    """Return what a folder holds and a report on its files, without changing anything.

    A folder that a running agent writes to can be read too. A compaction may then change names between two reads,
    which looks like damage, so a look that finds any is repeated.
    """
    files = SystemFiles(folder, exclusive=False)
    try:
        for _ in range(_LOOKS):
            found = recover(files)
            if not (files.is_in_use and found.problems):
                break
        names = files.names()
    finally:
        files.release()
    report = {
        "folder": str(folder),
        "is_in_use": files.is_in_use,
        "incarnation": found.incarnation.hex(),
        "generation": found.generation,
        "operation": found.operation,
        "profiles": len(found.table),
        "started_from": found.base,
        "replayed_operations": found.replayed,
        "torn_bytes": dict(sorted(found.torn.items())),
        "problems": [problem._asdict() for problem in found.problems],
        "set_aside": [name for name in names if ".damaged-" in name],
        "file_bytes": dict(sorted(found.sizes.items())),
        "is_sound": not found.problems,
    }
    return found, report


def dump_state(table: ProfileTable, facts: StoreFacts) -> dict[str, Any]:
    """Return profiles (least recently seen first), seeds, held windows and facts as JSON values; NaN becomes None.

    Examples
    --------
    >>> dump_state(ProfileTable(4), StoreFacts())["status"]
    'learning'
    """
    seeds = table.seeds
    return {
        "status": facts.status.name.lower(),
        "learning_started": _number(facts.learning_started),
        "learning_completed": _number(facts.learning_completed),
        "last_observed": _number(facts.last_observed),
        "sequence": facts.sequence,
        "uploaded_sequence": facts.uploaded_sequence,
        "policy_revision": facts.policy_revision,
        "profiles": [_profile(table, encode_process_key(*key), slot) for key, slot in table.index.items()],
        "seed_generation": seeds.generation,
        "seeds": {encode_process_key(*key): mean.tolist() for key, mean in seeds.items()},
        "held": [
            {
                "window_id": window_id,
                "process_key": encode_process_key(*window.key),
                "counts": window.counts.tolist(),
                "held_at": _number(window.held_at),
            }
            for window_id, window in table.held.items()
        ],
    }


def _profile(table: ProfileTable, process_key: str, slot: int) -> dict[str, Any]:
    generation = int(table.prior_generation[slot])
    return {
        "process_key": process_key,
        "counts": table.counts[slot].tolist(),
        "sample_count": int(table.sample_count[slot]),
        "first_seen": _number(table.first_seen[slot]),
        "last_seen": _number(table.last_seen[slot]),
        "last_learned": _number(table.last_learned[slot]),
        "interarrival": _moments(table.interarrival, slot),
        "payload": _moments(table.payload, slot),
        "prior": table.prior[slot].tolist() if generation else None,
        "prior_generation": generation,
        "relearn_since": _number(table.relearn_since[slot]),
        "seq": int(table.seq[slot]),
        "dirty_since": int(table.dirty_since[slot]),
    }


def _moments(columns: MomentColumns, slot: int) -> dict[str, float]:
    return {
        "count": int(columns.count[slot]),
        "mean": float(columns.mean[slot]),
        "m2": float(columns.m2[slot]),
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

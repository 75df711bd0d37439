"""Decoding uploads: the strict reader beside pydantic with the same field rules."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from eguard.wire import (
    CLASS_NAMES,
    BaselineBatch,
    BaselineRow,
    ContinuousMoments,
    Moments,
    decode_baseline_batch,
    distribution_from_vector,
    encode_baseline_batch,
    encode_process_key,
    entropy_threshold,
)

PROFILES = 128
SEED = 20260301
ROUNDS = 40
COUNT = Annotated[int, pydantic.Field(ge=0, le=2**53 - 1)]
POSITIVE = Annotated[int, pydantic.Field(ge=1, le=2**53 - 1)]
NAME = Annotated[str, pydantic.Field(min_length=1, max_length=128)]


class PeerMoments(pydantic.BaseModel):
    """The peer's `Moments`."""

    model_config = pydantic.ConfigDict(extra="forbid")
    count: COUNT
    mean: Annotated[float, pydantic.Field(ge=0, le=64)]
    m2: Annotated[float, pydantic.Field(ge=0)]


class PeerContinuous(pydantic.BaseModel):
    """The peer's `ContinuousMoments`."""

    model_config = pydantic.ConfigDict(extra="forbid")
    interarrival: PeerMoments | None = None
    payload: PeerMoments | None = None


class PeerRow(pydantic.BaseModel):
    """The peer's `BaselineRow`: the same fields, types and ranges."""

    model_config = pydantic.ConfigDict(extra="forbid")
    process_key: Annotated[str, pydantic.Field(min_length=3, max_length=512)]
    event_distribution: dict[Literal[CLASS_NAMES], Annotated[float, pydantic.Field(ge=0, le=1)]]
    sample_count: POSITIVE
    entropy_threshold: Annotated[float, pydantic.Field(ge=1, le=20)]
    learned_at_unix: Annotated[float, pydantic.Field(ge=0, le=253402300799)]
    seq: POSITIVE
    continuous: PeerContinuous | None = None
    prior_generation: POSITIVE | None = None


class PeerBatch(pydantic.BaseModel):
    """The peer's `BaselineBatch`."""

    model_config = pydantic.ConfigDict(extra="forbid")
    agent_id: NAME
    batch_id: NAME
    baselines: list[PeerRow]


def upload_body(profiles: int = PROFILES) -> bytes:
    """Return a full upload with skewed random profiles."""
    rng = np.random.default_rng(SEED)
    rows = []
    for index in range(profiles):
        counts = rng.multinomial(int(rng.integers(100, 100_000)), rng.dirichlet(np.full(len(CLASS_NAMES), 0.5)))
        total = int(counts.sum())
        moments = Moments(count=total - 1, mean=float(rng.uniform(0.1, 4)), m2=float(rng.uniform(1, 50)))
        rows.append(
            BaselineRow(
                process_key=encode_process_key(f"service-{index}", "systemd"),
                event_distribution=distribution_from_vector(counts / total),
                sample_count=total,
                entropy_threshold=entropy_threshold(total),
                learned_at_unix=1_772_000_000.0 + index,
                seq=index + 1,
                continuous=ContinuousMoments(interarrival=moments, payload=moments),
                prior_generation=17,
            )
        )
    return encode_baseline_batch(BaselineBatch(agent_id="agent-31bbb93f38b4", batch_id="b-000001", baselines=rows))


def run() -> list[dict[str, Any]]:
    """Return one row: bodies decoded a second, ours and the peer's on the same bytes, in turns."""
    body = upload_body()
    ours = peer = float("inf")
    for _ in range(ROUNDS):
        ours = min(ours, _seconds(lambda: decode_baseline_batch(body)))
        peer = min(peer, _seconds(lambda: PeerBatch.model_validate_json(body)))
    return [
        {
            "name": f"decode of a {PROFILES}-profile upload, all checks (peer: pydantic, field rules only)",
            "ours": 1.0 / ours,
            "peer": 1.0 / peer,
            "unit": "bodies/s",
            "ratio": peer / ours,
            "target_ratio": 1.8,
        }
    ]


def _seconds(call: Callable[[], object], repeats: int = 5) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats


if __name__ == "__main__":
    for row in run():
        print(row)

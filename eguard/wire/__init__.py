"""Bodies that agents and servers exchange, and the process key."""

from eguard.wire.baseline import (
    MAX_BATCH_BYTES,
    BaselineBatch,
    BaselineRow,
    ContinuousMoments,
    Moments,
    ReceivedBatch,
    RowRejection,
    UpsertResult,
    decode_baseline_batch,
    encode_baseline_batch,
    entropy_threshold,
    receive_baseline_batch,
)
from eguard.wire.canonical import canonical_json, canonical_sha256
from eguard.wire.distribution import CLASS_NAMES, distribution_from_vector, vector_from_distribution
from eguard.wire.fleet import FleetPage, FleetRow, decode_fleet_page, encode_fleet_page
from eguard.wire.process_key import decode_process_key, encode_process_key, is_process_key, read_imported_key
from eguard.wire.strict_json import parse_strict_json

__all__ = [
    "CLASS_NAMES",
    "MAX_BATCH_BYTES",
    "BaselineBatch",
    "BaselineRow",
    "ContinuousMoments",
    "FleetPage",
    "FleetRow",
    "Moments",
    "ReceivedBatch",
    "RowRejection",
    "UpsertResult",
    "canonical_json",
    "canonical_sha256",
    "decode_baseline_batch",
    "decode_fleet_page",
    "decode_process_key",
    "distribution_from_vector",
    "encode_baseline_batch",
    "encode_fleet_page",
    "encode_process_key",
    "entropy_threshold",
    "is_process_key",
    "parse_strict_json",
    "read_imported_key",
    "receive_baseline_batch",
    "vector_from_distribution",
]

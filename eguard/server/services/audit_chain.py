"""The chain of the audit log: how a record is hashed, and how the first broken link is found.

Rules that `verify_chain` holds every record to:

* sequence numbers follow each other without a gap;
* `previous_hash` is the hash of the record before;
* `record_hash` is the hash of what the record says now;
* the first record is number 1, or a later record of retention says where the log begins and after which hash;
* the counter of sequence numbers stands at the last record;
* the head that the operator kept, if one is given, is still in the chain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from msgspec import Struct

from eguard.fleet.tables import audit_log, server_counter
from eguard.wire.canonical import canonical_json

#: `previous_hash` of the very first record.
GENESIS: Final = "0" * 64
#: Row of `server_counter` that holds the last sequence number, and that whoever writes a record locks.
COUNTER: Final = "audit"
#: Action of the record that says which records retention removed.
PRUNED: Final = "audit.prune"

_HASHED: Final = (
    "sequence",
    "principal",
    "role",
    "action",
    "object_type",
    "object_id",
    "detail",
    "address",
    "credential",
)
_PAGE_ROWS: Final = 1000


class ChainHead(Struct, frozen=True, kw_only=True):
    """The last record's number and hash: whoever keeps it proves later that nothing up to it was changed."""

    sequence: int
    record_hash: str


class AuditReport(Struct, frozen=True, kw_only=True):
    """What a walk along the chain found.

    Attributes
    ----------
    intact : bool
        Whether every rule held.
    records : int
        Records that were read before the walk ended.
    first_sequence : int
        Where the log begins; above 1 after retention, 0 when it is empty.
    head : ChainHead, optional
        The last record that was read; none in an empty log.
    broken_at : int, optional
        Sequence number of the first record at which a rule did not hold.
    reason : str
        Which rule, as a sentence; empty when the chain is intact.
    """

    intact: bool
    records: int
    first_sequence: int
    head: ChainHead | None
    broken_at: int | None = None
    reason: str = ""


def record_hash(values: Mapping[str, Any]) -> str:
    """Return the hash of a record: SHA-256 over the previous hash and the record in canonical JSON.

    The time is hashed as text to the microsecond, which is what every database keeps of it.
    """
    content = {name: values[name] for name in _HASHED}
    content["at"] = datetime.fromtimestamp(values["at"], UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(str(values["previous_hash"]).encode() + canonical_json(content)).hexdigest()


def verify_chain(connection: sa.Connection, known_head: ChainHead | None = None) -> AuditReport:
    """Walk the whole log and report the first broken link. Time grows with the log, memory does not."""
    walk = _Walk(known_head)
    for row in _rows(connection):
        if not walk.step(row):
            break
    else:
        walk.finish(_counter(connection))
    return walk.report()


class _Walk:
    def __init__(self, known_head: ChainHead | None) -> None:
        self._known_head = known_head
        self._is_known_head_seen = False
        self._records = 0
        self._first: tuple[int, str] = (0, GENESIS)
        self._last = ChainHead(sequence=0, record_hash=GENESIS)
        self._begins: set[tuple[int, str]] = {(1, GENESIS)}
        self._fault: tuple[int, str] | None = None

    def step(self, row: Mapping[str, Any] | None) -> bool:
        """Check one record against the one before; false ends the walk."""
        fault = self._fault_of(row)
        if fault is not None or row is None:
            self._fault = fault
            return False
        if self._records == 0:
            self._first = (row["sequence"], row["previous_hash"])
        self._records += 1
        self._last = ChainHead(sequence=row["sequence"], record_hash=row["record_hash"])
        self._is_known_head_seen |= self._last == self._known_head
        if row["action"] == PRUNED:
            self._begins.add((row["detail"].get("first_sequence"), row["detail"].get("previous_hash")))
        return True

    def _fault_of(self, row: Mapping[str, Any] | None) -> tuple[int, str] | None:
        expected = self._last.sequence + 1
        if row is None:
            return expected, f"the record after {self._last.sequence} cannot be read"
        sequence = row["sequence"]
        if self._records and sequence != expected:
            return expected, f"records {expected} to {sequence - 1} are missing"
        if self._records and row["previous_hash"] != self._last.record_hash:
            return sequence, f"record {sequence} does not follow the record before it"
        try:
            is_as_written = record_hash(row) == row["record_hash"]
        except (TypeError, ValueError):
            is_as_written = False
        return None if is_as_written else (sequence, f"record {sequence} is not what was written")

    def finish(self, counter: int) -> None:
        """Check both ends of the log."""
        head = self._known_head
        if self._records and self._first not in self._begins:
            self._fault = (self._first[0], f"records before {self._first[0]} are missing, and no retention says so")
        elif counter != self._last.sequence:
            self._fault = (self._last.sequence + 1, f"records {self._last.sequence + 1} to {counter} are missing")
        elif head is not None and not self._is_known_head_seen and head.sequence >= self._first[0]:
            self._fault = (head.sequence, f"record {head.sequence} is not the one whose hash was kept")

    def report(self) -> AuditReport:
        """Return what was found."""
        broken_at, reason = self._fault or (None, "")
        return AuditReport(
            intact=self._fault is None,
            records=self._records,
            first_sequence=self._first[0],
            head=self._last if self._records else None,
            broken_at=broken_at,
            reason=reason,
        )


def _rows(connection: sa.Connection) -> Iterator[Mapping[str, Any] | None]:
    """Yield records in order, and None for one that the driver cannot read any more."""
    log = audit_log.c
    # As text: what somebody wrote over it may be no JSON, and has to be found, not to end the walk with an error.
    columns = [column for column in log if column.name != "detail"] + [
        sa.type_coerce(log.detail, sa.Text).label("detail")
    ]
    after, size = -1, _PAGE_ROWS
    while True:
        page = sa.select(*columns).where(log.sequence > after).order_by(log.sequence).limit(size)
        try:
            rows = connection.execute(page).mappings().all()
        except (TypeError, ValueError):
            if size == 1:
                yield None
                return
            size = 1  # record by record, up to the one
            continue
        for row in rows:
            detail = _json_object(row["detail"])
            yield None if detail is None else {**row, "detail": detail}
            after = row["sequence"]
        if len(rows) < size:
            return


def _json_object(text: Any) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _counter(connection: sa.Connection) -> int:
    counter = server_counter.c
    found = connection.execute(sa.select(counter.value).where(counter.name == COUNTER)).scalar_one_or_none()
    return 0 if found is None else int(found)

"""Uploading what was learned: own counts alone, oldest change first, nothing forgotten before the server has it.

A profile is written to the disk, sent, and marked as sent once the server has answered for it. Killed in between, the
agent sends it again under the same sequence number, and the server says that it knows it. A profile that the server
refuses, or that no body can carry, stays marked as changed, is counted, and holds up no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog

from eguard.agent.control.answers import decoded
from eguard.agent.control.client import ControlClient, Request
from eguard.agent.control.desk import RuntimeDesk, UploadSnapshot
from eguard.agent.control.policies import PolicyKeeper
from eguard.baseline.upload import BATCH_PROFILES, pack_uploads
from eguard.errors import ServerRefusalError, ServerUnavailableError
from eguard.policy import ServerVerdict
from eguard.wire.baseline import BaselineBatch, BaselineRow, UpsertResult
from eguard.wire.control import INCARNATION_HEADER

#: So many changed profiles are not kept waiting for the interval, but for this long after the last upload.
BACKLOG_PROFILES: Final = 128
BACKLOG_SECONDS: Final = 60.0
_PATH: Final = "/endpoint/baseline/batch"
_MAX_ANSWER_BYTES: Final = 262_144
_TOO_LARGE: Final = 413
_FORBIDDEN: Final = 403
_VERDICTS: Final = {
    "baseline_upload_disabled": ServerVerdict.DISABLED,
    "not_in_canary": ServerVerdict.NOT_IN_CANARY,
}

_log = structlog.get_logger("eguard.agent")


@dataclass(slots=True)
class UploadTotals:
    """What became of profiles since the start."""

    batches: int = 0
    accepted: int = 0
    unchanged: int = 0
    stale: int = 0
    rejected: int = 0
    oversized: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in self.__slots__}


class BaselineUploader:
    """The duty that uploads the baseline.

    Parameters
    ----------
    client : ControlClient
    desk : RuntimeDesk
    policies : PolicyKeeper
        Asked before every batch: a kill switch ends an upload that has begun.
    agent_id : str
    max_bytes : int
        Largest body.
    is_stopping : callable
        Whether the agent ends; asked between batches.
    """

    def __init__(
        self,
        client: ControlClient,
        desk: RuntimeDesk,
        policies: PolicyKeeper,
        *,
        agent_id: str,
        max_bytes: int,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = client
        self._desk = desk
        self._policies = policies
        self._agent_id = agent_id
        self._max_bytes = max_bytes
        self._max_rows = BATCH_PROFILES
        self._is_stopping = is_stopping
        self._set_aside: dict[str, int] = {}
        self._renumbered: set[str] = set()
        self._answered: set[tuple[str, int]] = set()
        self._uploaded_at = -BACKLOG_SECONDS
        self.totals = UploadTotals()

    def upload(self) -> None:
        """Upload every profile that had changed when this began.

        Raises
        ------
        ServerRefusalError, ServerUnavailableError
            What was not answered for is sent again another time.
        BaselineStoreError
            Nothing is sent that is not on the disk.
        """
        # What the server said an interval ago is forgotten: it is asked anew.
        self._policies.note_upload(ServerVerdict.ERROR)
        self._renumbered.clear()
        _, up_to = self._desk.waiting_profiles()
        self._answered.clear()
        while self._policies.may_upload and not self._is_stopping():
            snapshot = self._desk.upload_snapshot(self._max_rows, up_to=up_to, skipped=set(self._set_aside.items()))
            if all((row.process_key, row.seq) in self._answered for row in snapshot.rows):
                break  # nothing is left, or what was answered for does not come off: never twice in one run
            self._uploaded_at = time.monotonic()
            self._send_all(snapshot)

    def is_backlog(self) -> bool:
        """Return whether so much has changed that an upload should not wait for its interval."""
        if not self._policies.may_upload or time.monotonic() - self._uploaded_at < BACKLOG_SECONDS:
            return False
        waiting, _ = self._desk.waiting_profiles()
        return waiting - len(self._set_aside) >= BACKLOG_PROFILES

    def describe(self) -> dict[str, Any]:
        """Return the totals, and how many profiles are set aside until they change."""
        return self.totals.to_dict() | {"set_aside": len(self._set_aside)}

    def _send_all(self, snapshot: UploadSnapshot) -> None:
        packed = pack_uploads(self._agent_id, snapshot.rows, self._max_rows, self._max_bytes)
        for row in packed.unsendable:
            self._put_aside_oversized(row)
        for body in packed.bodies:
            if self._policies.may_upload and not self._is_stopping():
                self._send(body, snapshot)

    def _send(self, body: bytes, snapshot: UploadSnapshot) -> None:
        batch = msgspec.json.decode(body, type=BaselineBatch)
        headers = {INCARNATION_HEADER: snapshot.incarnation}
        try:
            answer = self._client.send(Request(_PATH, body, headers=headers, max_bytes=_MAX_ANSWER_BYTES))
        except ServerRefusalError as error:
            self._note_refusal(error, batch)
            return
        result = decoded(answer.body, UpsertResult, self._client.server)
        taken = self._settle(batch.baselines, result)
        self._desk.acknowledge(taken)
        self._answered.update((row.process_key, row.seq) for row in taken)
        self._policies.note_upload(ServerVerdict.ALLOWED)
        self._count(result)
        _log.info(
            "uploaded baseline profile batch",
            agent_id=self._agent_id,
            batch_id=batch.batch_id,
            baseline_status=snapshot.baseline_status,
            profiles=len(batch.baselines),
            size_bytes=len(body),
            accepted=result.accepted,
            unchanged=result.unchanged,
            stale=result.stale,
            rejected=len(result.rejected),
        )

    def _settle(self, rows: Sequence[BaselineRow], result: UpsertResult) -> list[BaselineRow]:
        """Return the rows that the server has; put aside, or renumber, those that it refused."""
        refused = {rejection.index: rejection for rejection in result.rejected}
        counted = result.accepted + result.unchanged + result.stale
        if counted + len(refused) != len(rows) or not all(0 <= index < len(rows) for index in refused):
            raise ServerUnavailableError(
                f"the server's answer accounts for {counted + len(refused)} of {len(rows)} profiles",
                reason="unreadable",
            )
        reused: list[str] = []
        for index, rejection in sorted(refused.items()):
            row = rows[index]
            if rejection.code == "seq_reused" and row.process_key not in self._renumbered:
                reused.append(row.process_key)
            else:
                self._set_aside[row.process_key] = row.seq
        if refused:
            codes = sorted({rejection.code for rejection in result.rejected})
            _log.warning(
                "server refused baseline profiles", agent_id=self._agent_id, rejected=len(refused), codes=codes
            )
        if reused:
            self._renumbered.update(reused)
            self._desk.renumber(reused)
        taken = [row for index, row in enumerate(rows) if index not in refused]
        for row in taken:
            self._set_aside.pop(row.process_key, None)
        return taken

    def _note_refusal(self, error: ServerRefusalError, batch: BaselineBatch) -> None:
        """Send less where the server takes less; remember why it takes nothing; raise in all other cases."""
        if error.status == _TOO_LARGE and len(batch.baselines) > 1:
            self._max_rows = max(1, len(batch.baselines) // 2)
            _log.warning("server takes smaller batches only", agent_id=self._agent_id, profiles=self._max_rows)
            return  # the rows are dirty still, and come again in the next round
        if error.status == _TOO_LARGE:
            self._put_aside_oversized(batch.baselines[0])
            return
        if error.status == _FORBIDDEN and error.reason in _VERDICTS:
            self._policies.note_upload(_VERDICTS[error.reason])
        raise error

    def _put_aside_oversized(self, row: BaselineRow) -> None:
        self._set_aside[row.process_key] = row.seq
        self.totals.oversized += 1
        _log.error(
            "baseline profile is too large to upload",
            agent_id=self._agent_id,
            process_key=row.process_key[:200],
            max_bytes=self._max_bytes,
        )

    def _count(self, result: UpsertResult) -> None:
        totals = self.totals
        totals.batches += 1
        totals.accepted += result.accepted
        totals.unchanged += result.unchanged
        totals.stale += result.stale
        totals.rejected += len(result.rejected)

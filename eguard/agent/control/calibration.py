"""Calibration samples on their way to the server: what was drawn, as numbers, and forgotten by no failure."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import structlog

from eguard.agent.calibration import KeptEvent
from eguard.agent.control.answers import decoded
from eguard.agent.control.client import ControlClient, Request
from eguard.agent.control.desk import RuntimeDesk
from eguard.detection.feature_contract import contract_sha256
from eguard.errors import ServerRefusalError, ServerUnavailableError
from eguard.events.model import EventClass
from eguard.wire.telemetry import CalibrationBatch, CalibrationSample, TelemetryAnswer

#: Samples in one body: some 200 KB.
BATCH_SAMPLES: Final = 256
_MAX_ANSWER_BYTES: Final = 262_144
_PATH: Final = "/endpoint/calibration"
#: A body that the server will not take however often it is sent.
_UNTAKABLE: Final = frozenset({400, 413, 422})

_log = structlog.get_logger("eguard.agent")


class CalibrationUploader:
    """The duty that uploads calibration samples, oldest first.

    Parameters
    ----------
    client : ControlClient
    desk : RuntimeDesk
    agent_id : str
    is_stopping : callable
        Whether the agent ends; asked between batches.
    """

    def __init__(
        self,
        client: ControlClient,
        desk: RuntimeDesk,
        *,
        agent_id: str,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = client
        self._desk = desk
        self._agent_id = agent_id
        self._is_stopping = is_stopping
        self._totals = {"batches": 0, "accepted": 0, "duplicate": 0, "refused": 0}

    def upload(self) -> None:
        """Upload every sample that waits.

        Raises
        ------
        ServerRefusalError, ServerUnavailableError
            What was not answered for is sent again.
        """
        while not self._is_stopping():
            waiting = self._desk.waiting_samples(BATCH_SAMPLES)
            if not waiting:
                return
            self._send(waiting)

    def describe(self) -> dict[str, Any]:
        """Return what became of samples since the start."""
        return dict(self._totals)

    def _send(self, waiting: Sequence[KeptEvent]) -> None:
        # The same samples have the same name when they are sent again.
        batch = CalibrationBatch(
            agent_id=self._agent_id,
            batch_id=f"calibration-{waiting[0].sample_id}-{len(waiting)}",
            samples=[_on_the_wire(event) for event in waiting],
        )
        body = gzip.compress(msgspec.json.encode(batch), 6, mtime=0)
        request = Request(_PATH, body, headers={"Content-Encoding": "gzip"}, max_bytes=_MAX_ANSWER_BYTES)
        try:
            answer = decoded(self._client.send(request).body, TelemetryAnswer, self._client.server)
        except ServerRefusalError as error:
            if error.status not in _UNTAKABLE:
                raise
            self._totals["refused"] += len(waiting)
            self._desk.samples_arrived([event.sample_id for event in waiting])
            _log.error("server refused calibration samples", agent_id=self._agent_id, reason=error.reason)
            return
        if answer.accepted + answer.duplicate + len(answer.rejected) != len(waiting):
            raise ServerUnavailableError(
                f"the server's answer does not account for {len(waiting)} samples", reason="unreadable"
            )
        # A rejected one would be rejected again.
        self._desk.samples_arrived([event.sample_id for event in waiting])
        self._note(answer)

    def _note(self, answer: TelemetryAnswer) -> None:
        totals = self._totals
        totals["batches"] += 1
        totals["accepted"] += answer.accepted
        totals["duplicate"] += answer.duplicate
        totals["refused"] += len(answer.rejected)
        if answer.rejected:
            codes = sorted({rejection.code for rejection in answer.rejected})
            _log.warning(
                "server refused calibration samples",
                agent_id=self._agent_id,
                refused=len(answer.rejected),
                codes=codes,
            )


def _on_the_wire(event: KeptEvent) -> CalibrationSample:
    return CalibrationSample(
        sample_id=event.sample_id,
        event_class="uncounted" if event.event_class < 0 else _CLASS_NAMES[event.event_class],
        features=np.frombuffer(event.features, "<f8").tolist(),
        contract_hash=contract_sha256(),
        observed_at_unix=event.observed_at_unix,
        signal=event.signal,
        score=event.score,
        model_digest=event.model_digest or None,
        event_id=event.event_id or None,
    )


_CLASS_NAMES: Final[Any] = tuple(member.name.lower() for member in EventClass)

"""Alerts on their way to the server: in order, redacted, and forgotten here only once they are there."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import structlog

from eguard.agent.buffer import BufferedAlert
from eguard.agent.control.answers import decoded
from eguard.agent.control.client import ControlClient, Request
from eguard.agent.control.desk import RuntimeDesk
from eguard.agent.control.redaction import AlertRedactor
from eguard.errors import ServerRefusalError, ServerUnavailableError
from eguard.wire.telemetry import MAX_TELEMETRY_BYTES, TelemetryAnswer, TelemetryBatch

BATCH_ALERTS: Final = 200
#: Batches in one go; other duties want their turn.
_MAX_BATCHES: Final = 25
#: The server counts bytes after decompression; a little stays free for the frame around the alerts.
_MAX_BODY_BYTES: Final = MAX_TELEMETRY_BYTES - 4096
_WORTH_COMPRESSING_BYTES: Final = 1024
_MAX_ANSWER_BYTES: Final = 262_144
_PATH: Final = "/endpoint/telemetry"
#: A body that the server will not take however often it is sent.
_UNTAKABLE: Final = frozenset({400, 413, 422})
#: Alerts given up one after another. A server that takes none at all is not what is wrong with the alerts.
_MOST_GIVEN_UP: Final = 10

_log = structlog.get_logger("eguard.agent")


class TelemetryUploader:
    """The duty that empties the alert buffer, oldest first.

    Parameters
    ----------
    client : ControlClient
    desk : RuntimeDesk
    redactor : AlertRedactor
    agent_id : str
    is_stopping : callable
        Whether the agent ends; asked between batches.
    """

    def __init__(
        self,
        client: ControlClient,
        desk: RuntimeDesk,
        redactor: AlertRedactor,
        *,
        agent_id: str,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = client
        self._desk = desk
        self._redactor = redactor
        self._agent_id = agent_id
        self._is_stopping = is_stopping
        self._batch_alerts = BATCH_ALERTS
        self._given_up = 0
        self._totals = {"batches": 0, "accepted": 0, "duplicate": 0, "refused": 0}

    def drain(self) -> float | None:
        """Send what waits; return 0 if there is more.

        Raises
        ------
        ServerRefusalError, ServerUnavailableError
            What was not answered for is sent again.
        AlertBufferError
            The buffer cannot be read or written.
        """
        for _ in range(_MAX_BATCHES):
            if self._is_stopping():
                return None
            waiting = self._desk.waiting_alerts(self._batch_alerts)
            if not waiting:
                self._batch_alerts = BATCH_ALERTS
                return None
            self._send(waiting)
        return 0.0

    def describe(self) -> dict[str, Any]:
        """Return what became of alerts since the start."""
        return dict(self._totals)

    def _send(self, waiting: Sequence[BufferedAlert]) -> None:
        sent, body = self._packed(waiting)
        headers = {}
        if len(body) > _WORTH_COMPRESSING_BYTES:
            body, headers = gzip.compress(body, 6, mtime=0), {"Content-Encoding": "gzip"}
        try:
            answer = self._client.send(Request(_PATH, body, headers=headers, max_bytes=_MAX_ANSWER_BYTES))
        except ServerRefusalError as error:
            if error.status not in _UNTAKABLE:
                raise
            self._note_untakable(sent, error)
            return
        self._settle(sent, decoded(answer.body, TelemetryAnswer, self._client.server))

    def _packed(self, waiting: Sequence[BufferedAlert]) -> tuple[list[BufferedAlert], bytes]:
        """Return the alerts that fit into one body, at least one, and the body."""
        sent: list[BufferedAlert] = []
        alerts: list[dict[str, Any]] = []
        size = 0
        for each in waiting:
            alert = self._redactor.prepared(msgspec.json.decode(each.body, type=dict[str, Any]))
            length = len(msgspec.json.encode(alert)) + 1
            if sent and size + length > _MAX_BODY_BYTES:
                break
            size += length
            sent.append(each)
            alerts.append(alert)
        # The same alerts have the same name when they are sent again.
        batch_id = f"alerts-{sent[0].sequence}-{sent[-1].sequence}"
        return sent, msgspec.json.encode(TelemetryBatch(agent_id=self._agent_id, batch_id=batch_id, alerts=alerts))

    def _settle(self, sent: Sequence[BufferedAlert], answer: TelemetryAnswer) -> None:
        if answer.accepted + answer.duplicate + len(answer.rejected) != len(sent):
            raise ServerUnavailableError(
                f"the server's answer does not account for {len(sent)} alerts", reason="unreadable"
            )
        self._desk.alerts_arrived([each.sequence for each in sent])
        if answer.accepted or answer.duplicate:
            self._given_up = 0
        totals = self._totals
        totals["batches"] += 1
        totals["accepted"] += answer.accepted
        totals["duplicate"] += answer.duplicate
        totals["refused"] += len(answer.rejected)
        if answer.rejected:
            codes = sorted({rejection.code for rejection in answer.rejected})
            _log.error("server refused alerts", agent_id=self._agent_id, refused=len(answer.rejected), codes=codes)
        _log.info(
            "uploaded alerts", agent_id=self._agent_id, accepted=answer.accepted, duplicate=answer.duplicate
        )  # fmt: skip

    def _note_untakable(self, sent: Sequence[BufferedAlert], error: ServerRefusalError) -> None:
        """Halve the batch until the one alert is found that spoils it; that one is given up, and counted."""
        if len(sent) > 1:
            self._batch_alerts = len(sent) // 2
            return
        if self._given_up >= _MOST_GIVEN_UP:
            raise error
        self._given_up += 1
        self._batch_alerts = BATCH_ALERTS
        self._desk.alerts_arrived([sent[0].sequence])
        self._totals["refused"] += 1
        _log.error(
            "server refused alert", agent_id=self._agent_id, alert_id=sent[0].alert_id, reason=error.reason
        )  # fmt: skip

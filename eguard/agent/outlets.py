"""Where alerts go: into the offline buffer first, then to whoever watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from eguard.agent.buffer import AlertBuffer, BufferCounts
from eguard.detection.alert import Alert
from eguard.errors import AlertBufferError

_log = structlog.get_logger("eguard.agent")


class AlertOutlet:
    """Keeps and shows alerts. A buffer that cannot take them is counted and never stops detection.

    Parameters
    ----------
    buffer : AlertBuffer or None
        Alerts waiting for a server; None keeps none.
    show : callable
        Called with each alert after it was kept.

    Attributes
    ----------
    by_confidence : Counter
        Alerts given out.
    unkept_total : int
        Alerts that the buffer could not take.
    """

    def __init__(self, buffer: AlertBuffer | None, show: Callable[[Alert], None]) -> None:
        self._buffer = buffer
        self._show = show
        self._is_failing = False
        self.by_confidence: Counter[str] = Counter()
        self.unkept_total = 0

    def give(self, alerts: Sequence[Alert]) -> None:
        """Keep alerts in one transaction, then show them."""
        if not alerts:
            return
        self._keep(alerts)
        for alert in alerts:
            self.by_confidence[alert.confidence] += 1
            self._show(alert)

    def counts(self) -> BufferCounts | None:
        """Return what the buffer holds, None where there is none or it cannot be read now."""
        if self._buffer is None:
            return None
        try:
            return self._buffer.counts()
        except AlertBufferError:
            return None

    def close(self) -> None:
        """Give the buffer back."""
        if self._buffer is not None:
            self._buffer.close()

    def _keep(self, alerts: Sequence[Alert]) -> None:
        if self._buffer is None:
            return
        try:
            self._buffer.append(alerts)
        except AlertBufferError as error:
            self.unkept_total += len(alerts)
            if not self._is_failing:
                _log.error("alert buffer failed", reason=error.message, remedy=error.remedy)
            self._is_failing = True
        else:
            if self._is_failing:
                _log.info("alert buffer works again", alerts_not_kept=self.unkept_total)
            self._is_failing = False

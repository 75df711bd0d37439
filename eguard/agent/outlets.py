"""Where alerts go: into the offline buffer first, then to whoever watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from msgspec.structs import replace

from eguard.agent.buffer import AlertBuffer, BufferCounts, BufferedAlert
from eguard.detection.alert import Alert
from eguard.detection.suppression import Suppressor
from eguard.errors import AlertBufferError
from eguard.wire.policy import WhitelistEntry

#: What an alert asks for that the whitelist silences.
SUPPRESSED: Final = "suppressed"

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
    suppressed_total : int
        Alerts that the whitelist silences. They are kept and marked, and not shown.
    unkept_total : int
        Alerts that the buffer could not take.
    """

    def __init__(self, buffer: AlertBuffer | None, show: Callable[[Alert], None]) -> None:
        self._buffer = buffer
        self._show = show
        self._is_failing = False
        self._suppressor: Suppressor | None = None
        self.suppressed_total = 0
        self.by_confidence: Counter[str] = Counter()
        self.unkept_total = 0

    def give(self, alerts: Sequence[Alert]) -> None:
        """Keep alerts in one transaction, then show them."""
        if not alerts:
            return
        judged = self._judged(alerts)
        self._keep(judged)
        for alert in judged:
            if alert.response == SUPPRESSED:
                self.suppressed_total += 1
                continue
            self.by_confidence[alert.confidence] += 1
            self._show(alert)

    def use_whitelist(self, entries: Sequence[WhitelistEntry]) -> None:
        """Compare alerts with these entries from now on."""
        self._suppressor = Suppressor(entries) if entries else None

    def counts(self) -> BufferCounts | None:
        """Return what the buffer holds, None where there is none or it cannot be read now."""
        if self._buffer is None:
            return None
        try:
            return self._buffer.counts()
        except AlertBufferError:
            return None

    def waiting(self, limit: int) -> list[BufferedAlert]:
        """Return the alerts that have waited longest for a server.

        Raises
        ------
        AlertBufferError
            The buffer cannot be read.
        """
        return self._buffer.oldest(limit) if self._buffer is not None else []

    def arrived(self, sequences: Sequence[int]) -> None:
        """Forget alerts that a server has.

        Raises
        ------
        AlertBufferError
            They still wait; the server will see them again.
        """
        if self._buffer is not None:
            self._buffer.acknowledge(sequences)

    def close(self) -> None:
        """Give the buffer back."""
        if self._buffer is not None:
            self._buffer.close()

    def _judged(self, alerts: Sequence[Alert]) -> Sequence[Alert]:
        """Mark the alerts that the whitelist silences: they ask for no response."""
        suppressor = self._suppressor
        if suppressor is None:
            return alerts
        return [replace(alert, response=SUPPRESSED) if suppressor.match(alert) else alert for alert in alerts]

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

"""A thread of duties: each at its own interval, with jitter on every one, and none stops another.

A duty that fails because the server is in trouble comes back after a pause of its own back-off. One that was refused,
or that failed for a reason of this machine, comes back at its next regular time.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from eguard.agent.control.backoff import Backoff, is_final, retry_after
from eguard.errors import EguardError, ServerRefusalError

JITTER_FRACTION: Final = 0.1
#: What a duty may fail with. Beyond eGuard's and the system's errors: what a malformed answer may provoke in a library.
_FAILURES: Final = (
    EguardError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    MemoryError,
)  # fmt: skip

_log = structlog.get_logger("eguard.agent")

#: Does the duty once; what it returns, if anything, is the pause until the next time in seconds.
Work = Callable[[], float | None]


@dataclass(slots=True)
class Duty:
    """One duty and how it fares; read by other threads for the status only."""

    name: str
    interval_seconds: float
    work: Work
    backoff: Backoff
    due_at: float
    runs_total: int = 0
    failures_total: int = 0
    last_success_unix: float | None = None
    last_error: str = ""
    last_error_code: str = ""
    is_failing: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return how the duty fares as plain values."""
        return {
            "interval_seconds": self.interval_seconds,
            "runs_total": self.runs_total,
            "failures_total": self.failures_total,
            "last_success_unix": self.last_success_unix,
            "last_error": self.last_error,
            "last_error_code": self.last_error_code,
        }


@dataclass(slots=True)
class _Signals:
    """What other threads tell this one."""

    condition: threading.Condition = field(default_factory=threading.Condition)
    is_stopping: bool = False


class DutyThread:
    """Runs duties one after another.

    Parameters
    ----------
    name : str
        Of the thread.
    seed : str
        Of the jitter: the agent's name, so that agents started together do not stay together.
    """

    def __init__(self, name: str, seed: str) -> None:
        digest = hashlib.blake2b(f"{name}\x00{seed}".encode(errors="surrogatepass"), digest_size=8).digest()
        self._random = random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - spreads load, keeps no secret
        self._duties: dict[str, Duty] = {}
        self._signals = _Signals()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def every(self, name: str, interval_seconds: float, work: Work, *, first_seconds: float | None = None) -> None:
        """Do `work` every `interval_seconds`, for the first time at a random moment of the first `first_seconds`.

        By default the first time falls anywhere into one interval: a fleet that starts together spreads by itself.
        """
        spread = interval_seconds if first_seconds is None else first_seconds
        due_at = time.monotonic() + spread * self._random.random()
        self._duties[name] = Duty(name, interval_seconds, work, Backoff(self._random), due_at)

    def wake(self, name: str, *, even_failing: bool = False, within_seconds: float = 0.0) -> None:
        """Do a duty at a random moment of the next `within_seconds`, at once by default.

        One that waits after a failure goes on waiting, unless `even_failing`.
        """
        with self._signals.condition:
            duty = self._duties[name]
            if even_failing or not duty.is_failing:
                duty.due_at = min(duty.due_at, time.monotonic() + within_seconds * self._random.random())
                self._signals.condition.notify()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no duty any more; does not wait."""
        with self._signals.condition:
            self._signals.is_stopping = True
            self._signals.condition.notify()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the duty under way to end; return whether it did."""
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return how the duties fare, by name."""
        return {name: duty.to_dict() for name, duty in self._duties.items()}

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called; a long duty looks at it between its steps."""
        return self._signals.is_stopping

    @property
    def is_working(self) -> bool:
        """Whether duties are being done."""
        return self._thread.is_alive() and not self._signals.is_stopping

    def run_once(self, name: str) -> None:
        """Do a duty in the calling thread, as its turn would."""
        self._do(self._duties[name])

    def _run(self) -> None:
        while (duty := self._next()) is not None:
            self._do(duty)

    def _next(self) -> Duty | None:
        """Wait until a duty is due and return it; None when stopping."""
        with self._signals.condition:
            while not self._signals.is_stopping:
                duty = min(self._duties.values(), key=lambda each: each.due_at)
                left = duty.due_at - time.monotonic()
                if left <= 0.0:
                    # A wake-up that comes while it runs counts for the time after.
                    duty.due_at = time.monotonic() + self._jittered(duty.interval_seconds)
                    return duty
                self._signals.condition.wait(left)
        return None

    def _do(self, duty: Duty) -> None:
        duty.runs_total += 1
        planned = duty.due_at
        try:
            pause = duty.work()
        except _FAILURES as error:
            self._note_failure(duty, error)
            return
        duty.backoff.succeeded()
        duty.last_success_unix = time.time()
        duty.last_error = duty.last_error_code = ""
        if duty.is_failing:
            duty.is_failing = False
            _log.info("control duty works again", duty=duty.name)
        if pause is not None and duty.due_at == planned:
            duty.due_at = time.monotonic() + pause

    def _note_failure(self, duty: Duty, error: Exception) -> None:
        if self.is_stopping:
            return  # its connection was cut on purpose
        duty.failures_total += 1
        duty.last_error = str(error)[:300] or type(error).__name__
        duty.last_error_code = _code_of(error)
        if is_final(error):
            duty.backoff.succeeded()
            duty.due_at = time.monotonic() + self._jittered(duty.interval_seconds)
        else:
            duty.due_at = time.monotonic() + duty.backoff.failed(retry_after(error))
        if not duty.is_failing:  # once for each spell of trouble
            kind = error.code if isinstance(error, EguardError) else type(error).__name__
            remedy = error.remedy if isinstance(error, EguardError) else ""
            _log.warning("control duty failed", duty=duty.name, kind=kind, reason=duty.last_error, remedy=remedy)
        duty.is_failing = True

    def _jittered(self, seconds: float) -> float:
        return seconds * (1.0 + JITTER_FRACTION * self._random.uniform(-1.0, 1.0))


def _code_of(error: Exception) -> str:
    """Return the stable word for a failure: a server's own, else eGuard's, else the system's."""
    if isinstance(error, ServerRefusalError):
        return error.reason
    return error.code if isinstance(error, EguardError) else type(error).__name__

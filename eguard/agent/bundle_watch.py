"""A thread that looks for new bundles, so that fetching and trying one out never holds up detection."""

from __future__ import annotations

import queue
import random
import threading

import structlog

from eguard.agent.bundle_status import NewBundle
from eguard.agent.bundles import BundleKeeper
from eguard.errors import BundleError, EguardError

_log = structlog.get_logger("eguard.agent")


class BundleWatch:
    """Checks a repository at an interval and hands over what is new.

    Parameters
    ----------
    keeper : BundleKeeper
        Used by the thread alone once it has started.
    interval_seconds : float
        Time between two checks, give or take a tenth.

    Attributes
    ----------
    keeper : BundleKeeper
        For its status.
    """

    def __init__(self, keeper: BundleKeeper, interval_seconds: float) -> None:
        self.keeper = keeper
        self._interval_seconds = interval_seconds
        self._found: queue.SimpleQueue[NewBundle] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._is_ready = threading.Event()
        self._random = random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._thread = threading.Thread(target=self._run, name="bundle-watch", daemon=True)

    def start(self) -> None:
        """Begin: take the bundle that was in use last, or look for a first one."""
        self._thread.start()

    def wait_first(self, timeout_seconds: float) -> bool:
        """Wait until there is a bundle to start with, or until it is known that there is none."""
        return self._is_ready.wait(timeout_seconds)

    def take(self) -> NewBundle | None:
        """Return the newest bundle found since the last call, or None."""
        newest = None
        while not self._found.empty():
            newest = self._found.get()
        return newest

    @property
    def shadow(self) -> NewBundle | None:
        """The candidate to score with beside the model in use, None without one."""
        return self.keeper.shadow

    def stop(self, timeout_seconds: float = 2.0) -> None:
        """End the thread; a check that is under way may outlive the call, and is harmless."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            kept = self.keeper.last_good()
            if kept is not None:
                self._found.put(kept)
                self._is_ready.set()
            self._check()
        finally:
            self._is_ready.set()
        self._stop.wait(self._interval_seconds * self._random.uniform(0.0, 1.0))
        while not self._stop.is_set():
            self._check()
            self._stop.wait(self._interval_seconds * self._random.uniform(0.9, 1.1))

    def _check(self) -> None:
        try:
            bundle = self.keeper.check()
        except (EguardError, OSError) as error:
            kind = error.code if isinstance(error, BundleError) else type(error).__name__
            _log.debug("bundle check failed", kind=kind, reason=str(error))  # the keeper has logged it once
            return
        if bundle is not None:
            self._found.put(bundle)

"""Writers take turns in the order in which they came.

A plain lock goes to whoever asks first after it was given back, and that is the thread which gave it back more often
than the one that has to be woken: a writer of uploads that always has more to write would keep heartbeats waiting.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """A lock that is handed over first come, first served; its holder may take it again.

    Examples
    --------
    >>> turns = Turns()
    >>> with turns, turns:
    ...     turns.waiting
    0
    """

    def __init__(self) -> None:
        self._state = threading.Lock()
        self._queue: deque[tuple[int, threading.Lock]] = deque()
        self._holder: int | None = None
        self._depth = 0

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._queue)

    @property
    def is_taken(self) -> bool:
        """Whether any thread has it."""
        return self._holder is not None

    def __enter__(self) -> None:
        me = threading.get_ident()
        # Only this thread could have put its own number here.
        if self._holder == me:
            self._depth += 1
            return
        with self._state:
            if self._holder is None:
                self._holder, self._depth = me, 1
                return
            gate = threading.Lock()
            gate.acquire()
            self._queue.append((me, gate))
        try:
            gate.acquire()
        except BaseException:  # an interrupt: nobody would ever give back what is handed to this thread
            self._leave(me, gate)
            raise

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            with self._state:
                self._hand_over()

    def _leave(self, me: int, gate: threading.Lock) -> None:
        with self._state:
            if (me, gate) in self._queue:
                self._queue.remove((me, gate))
            elif self._holder == me:
                self._hand_over()

    def _hand_over(self) -> None:
        if self._queue:
            self._holder, gate = self._queue.popleft()
            self._depth = 1
            gate.release()
        else:
            self._holder, self._depth = None, 0

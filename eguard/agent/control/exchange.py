"""The one bridge between the control plane's threads and the thread that detects.

Profiles, store and alert buffer belong to the runtime's thread. A control thread hands over a small piece of work and
waits for its result; the runtime does what waits between two batches. With nothing waiting that costs it the look at
an empty queue. Network input and output stay with the control threads, so a slow server holds up no event.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final, TypeVar

from eguard.errors import AgentBusyError

#: How long a control thread waits for the runtime. A batch takes a fraction of a second, new rules a few.
ANSWER_SECONDS: Final = 30.0

_Result = TypeVar("_Result")
_Item = tuple[Callable[[], Any], "Future[Any]"]


class Exchange:
    """Work for the runtime's thread, in the order in which it was asked for.

    Examples
    --------
    >>> exchange = Exchange()
    >>> asker = threading.Thread(target=lambda: print(exchange.ask(lambda: 6 * 7)))
    >>> asker.start()
    >>> while asker.is_alive():
    ...     exchange.serve()
    42
    """

    def __init__(self) -> None:
        self._waiting: deque[_Item] = deque()
        self._lock = threading.Lock()
        self._is_closed = False

    def ask(self, work: Callable[[], _Result], timeout_seconds: float = ANSWER_SECONDS) -> _Result:
        """Have the runtime's thread do `work` and return what it returned; called by any other thread.

        Raises
        ------
        AgentBusyError
            The runtime did not come to it in time, or has ended. `work` was not begun and will not be.
        """
        future: Future[_Result] = Future()
        with self._lock:
            if self._is_closed:
                raise AgentBusyError("the agent is stopping")
            self._waiting.append((work, future))
        try:
            return future.result(timeout_seconds)
        except FutureTimeoutError:
            if not future.cancel():
                return future.result()  # it has begun after all
            raise AgentBusyError(
                f"detection did not come to a request within {timeout_seconds:g} s",
                remedy="See whether the machine is overloaded; `eguard agent status` shows events and losses.",
            ) from None
        except CancelledError:
            raise AgentBusyError("the agent is stopping") from None

    def serve(self) -> None:
        """Do what waits; called by the runtime's thread, which owns what the work touches."""
        while self._waiting:
            work, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                _do(work, future)

    def close(self) -> None:
        """Do nothing more; whoever waits is told so."""
        with self._lock:
            self._is_closed = True
        while self._waiting:
            _, future = self._waiting.popleft()
            future.cancel()


def _do(work: Callable[[], Any], future: Future[Any]) -> None:
    """Run `work`; whatever it raises is its asker's, and never ends the runtime."""
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - handed over, not swallowed
        future.set_exception(error)
    else:
        future.set_result(result)

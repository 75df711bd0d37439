"""Waiting and flow control of a connection, in a tenth of the memory.

An `asyncio.Event` keeps a queue of 760 bytes for those that may wait, and a connection of uvicorn's has three such
queues that are empty for almost all of its life.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl


class Signal:
    """What of `asyncio.Event` uvicorn uses.

    Parameters
    ----------
    is_set : bool
        What it is at first.
    """

    __slots__ = ("_is_set", "_waiting")

    def __init__(self, *, is_set: bool = False) -> None:
        self._is_set = is_set
        self._waiting: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        """Tell whether nobody has to wait."""
        return self._is_set

    def set(self) -> None:
        """Let everybody go on who waits."""
        self._is_set = True
        waiting, self._waiting = self._waiting, None
        for future in waiting or ():
            if not future.done():
                future.set_result(None)

    def clear(self) -> None:
        """Let those wait who come from now on."""
        self._is_set = False

    async def wait(self) -> None:
        """Return at once if it is set, else when it is."""
        if self._is_set:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(future)
        await future


class Flow(FlowControl):
    """Flow control as uvicorn has it."""

    __slots__ = ()

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = False
        self.write_paused = False
        self._is_writable_event = Signal(is_set=True)  # type: ignore[assignment]


class Pipeline(list):  # type: ignore[type-arg]
    """The queue of requests that were sent ahead: new ones come in on the left."""

    __slots__ = ()

    def appendleft(self, request: object) -> None:
        """Put the latest request behind all others."""
        self.insert(0, request)

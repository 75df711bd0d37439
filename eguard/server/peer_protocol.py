"""HTTP/1.1 as the listeners speak it.

What uvicorn does not do by itself is added to its protocol: the client's certificate is handed to the application, a
request has to arrive within a deadline (a connection that drips one byte a second would hold its place for ever) and an
answer has to be read within one, a head has a largest size, and whatever is refused before the application sees it is
refused in the one form.

References
----------
docs/adr/0012-server-stack.md, on what of uvicorn this leans on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from eguard.server.errors import error_body, error_response
from eguard.server.flow import Flow, Pipeline, Signal
from eguard.server.pki.identity import PeerCertificate
from eguard.server.withheld import CAN_WITHHOLD, WithheldPolicy

_LAST_SECONDS: Final = 1.0
#: Largest request line with all header fields; the parser by itself collects a field for as long as it grows.
MAX_HEAD_BYTES: Final = 65_536
#: The same for all, as nobody changes it.
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
_CLOSE: Final = {"Connection": "close"}
_PHRASES: Final = {
    400: b"400 Bad Request",
    408: b"408 Request Timeout",
    431: b"431 Request Header Fields Too Large",
}


class PeerProtocol(HttpToolsProtocol):
    """HTTP/1.1 that knows its peer's certificate and does not wait for ever."""

    # Of its own: with more than thirty attributes in its dictionary a connection would need a kibibyte more.
    __slots__ = (
        "_deadline",
        "_due_at",
        "_head_bytes",
        "_is_head_too_large",
        "_is_parser_gone",
        "_reading",
        "_when_lost",
    )

    deadline_seconds: float = 15.0
    max_connections: int = 12_000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who connected."""
        # When the request has to be there, none while none is due; one timer looks, and goes on to the next time.
        self._due_at: float | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        # How much of a head has come that is not complete; none once it is.
        self._head_bytes: int | None = 0
        self._is_head_too_large = False
        self._is_parser_gone = False
        self._when_lost: Callable[[], None] | None = None
        super().connection_made(transport)
        self.flow = Flow(transport)
        self.pipeline = Pipeline()  # type: ignore[assignment]
        if len(self.connections) > self.max_connections:
            self.app = _overloaded
        secured = transport.get_extra_info("ssl_object")
        der = secured.getpeercert(binary_form=True) if secured is not None else None
        self.app_state = {**self.app_state, "peer_certificate": None if der is None else PeerCertificate(der)}
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline with the connection, and the request too."""
        self._disarm()
        for timer in (self._deadline, self._reading):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        told, self._when_lost = self._when_lost, None
        if told is not None:
            told()
        # Its request refers to it. A herd that reconnects would take its memory twice until the collector comes by,
        # which sees the objects and not what OpenSSL keeps with them.
        self.cycle = None  # type: ignore[assignment]
        self.scope = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Take in what arrived, as long as the head of a request does not outgrow its limit."""
        before = self._head_bytes
        if self._is_parser_gone:
            self._make_parser()
        super().data_received(data)
        if before is not None and self._head_bytes == before:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """Begin a request: its head and body have until the deadline."""
        super().on_message_begin()
        self.scope["asgi"] = _ASGI  # type: ignore[typeddict-item]
        self.scope["state"]["when_lost"] = self._tell_when_lost
        self.scope["state"][CAN_WITHHOLD] = True
        self._head_bytes = 0
        self._arm()

    def on_headers_complete(self) -> None:
        """Hand a request on, unless its head is too large."""
        self._head_bytes = None
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._is_head_too_large = True
            raise ValueError("the head is too large")  # ends the parser's work; `send_400_response` says why
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.message_event = Signal()  # type: ignore[assignment]  # nobody waits for it yet

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        task = self.loop.create_task(self._answer(cycle, app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _answer(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Have the application answer; if that is withheld, end, and go on in another task when the waiting is over."""
        try:
            outcome = await app(cycle.scope, cycle.receive, cycle.send)
        except BaseException as error:  # noqa: BLE001 - uvicorn decides what becomes of it
            await cycle.run_asgi(partial(_end, error))
            return
        if not isinstance(outcome, WithheldPolicy):
            await cycle.run_asgi(partial(_end, None))
            return
        self._when_lost = outcome.give_up
        outcome.hold(partial(self._go_on, cycle))
        if self._head_bytes is None and not cycle.more_body:
            # It has read a whole request and nothing of another. With the methods of ours that it knows it takes a
            # kibibyte, and the next request is a minute away.
            self._is_parser_gone = True
            self.parser = None  # type: ignore[assignment]
        if cycle.disconnected:
            outcome.give_up()

    def _make_parser(self) -> None:
        self._is_parser_gone = False
        self.parser = httptools.HttpRequestParser(self)
        # As uvicorn sets its own up: an early answer may end a connection on which more requests were sent.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _go_on(self, cycle: RequestResponseCycle, withheld: WithheldPolicy) -> None:
        self._when_lost = None
        # What goes on refers to what was withheld: neither would be freed before the collector comes by.
        application, withheld.go_on = withheld.go_on, None
        self._start_asgi_task(cycle, application)

    def on_message_complete(self) -> None:
        """End a request's arrival; how long its answer takes is the application's matter."""
        self._disarm()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever: its answers would be kept in memory."""
        super().pause_writing()
        self._reading = self.loop.call_later(self.deadline_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        super().resume_writing()

    def shutdown(self) -> None:
        """End the connection once its answer is out; a request that is still arriving gets a second for the rest."""
        super().shutdown()
        if self._due_at is not None:
            self._arm(_LAST_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        if self._is_head_too_large:
            self._refuse_head()
        else:
            self._refuse(400, "bad_request", msg)

    def _tell_when_lost(self, told: Callable[[], None] | None) -> None:
        """Have `told` called when the connection is lost; nobody if it is none."""
        self._when_lost = told

    def _refuse_head(self) -> None:
        self._refuse(431, "head_too_large", f"request line and header fields have more than {MAX_HEAD_BYTES} bytes")

    def _arm(self, seconds: float | None = None) -> None:
        due_at = self._due_at = self.loop.time() + (self.deadline_seconds if seconds is None else seconds)
        if self._deadline is not None and self._deadline.when() > due_at:
            self._deadline.cancel()
            self._deadline = None
        if self._deadline is None:
            self._deadline = self.loop.call_at(due_at, self._look_at_deadline)

    def _disarm(self) -> None:
        """Let the timer run: to stop it and make another with every request costs more than to have it look."""
        self._due_at = None

    def _look_at_deadline(self) -> None:
        self._deadline, due_at = None, self._due_at
        if due_at is None:
            return
        if self.loop.time() < due_at:
            self._deadline = self.loop.call_at(due_at, self._look_at_deadline)
        else:
            self._due_at = None
            self._expire()

    def _expire(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self._refuse(408, "request_timeout", "the request did not arrive in time")
        else:
            self.transport.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        if self.transport.is_closing():
            return
        body = error_body(status, code, message)
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (_PHRASES[status], len(body)) + body)
        self.transport.close()


async def _end(error: BaseException | None, _scope: Any, _receive: Any, _send: Any) -> None:
    """End as an application that has ended before."""
    if error is not None:
        raise error


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = error_response(503, "busy", "the server holds as many connections as it can", headers=_CLOSE)
    await refusal(scope, receive, send)

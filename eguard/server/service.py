"""The server as one process: both listeners, the tasks, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog

from eguard.clock import Clock
from eguard.server.app import make_app
from eguard.server.assembly import open_context
from eguard.server.context import ServerContext
from eguard.server.listeners import ADMINISTRATION, AGENTS, Listener, reload_certificates
from eguard.server.pki.files import server_tls_files
from eguard.settings import ServerSettings

#: Objects made between two collections of the youngest; uploads make thousands that die at once.
_GC_THRESHOLD: Final = 50_000
_POLL_SECONDS: Final = 0.1
#: Of mallopt(3).
_M_ARENA_MAX: Final = -8
#: Files besides connections: the database's, the listeners', the administration's.
_OTHER_FILES: Final = 2_048

_log = structlog.get_logger("eguard.server")


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers: its ports and its parts."""

    agent_port: int
    admin_port: int
    context: ServerContext


def run_server(
    settings: ServerSettings,
    *,
    stop: threading.Event | None = None,
    started: Callable[[RunningServer], None] = lambda _: None,
    clock: Clock | None = None,
) -> None:
    """Serve until `stop` is set or the process is told to end; work in hand is finished, for up to 4 s.

    Parameters
    ----------
    settings : ServerSettings
        How the server is set up.
    stop : Event, optional
        Set it to end the server, from any thread.
    started : callable
        Called once both ports answer.
    clock : Clock, optional
        What the server takes for the time; the machine's by default. TLS goes by the machine's in any case.

    Raises
    ------
    ConfigError
        There is no certificate yet, or a port is taken.
    FleetStoreError
        The database cannot be used, or needs another version.
    """
    _use_few_arenas()
    with open_context(settings, clock) as context:
        gc.set_threshold(_GC_THRESHOLD)
        asyncio.run(_serve(settings, context, stop or threading.Event(), started))


def _use_few_arenas() -> None:
    """Have threads share the memory that the C library holds free (glibc): one of them runs at a time, mostly."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _allow_files(max_connections: int) -> None:
    """Raise the limit of open files as far as this process may: systems give 1,024, and each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning("fewer files may be open than connections are allowed", allowed=allowed, wanted=wanted)


async def _serve(
    settings: ServerSettings,
    context: ServerContext,
    stop: threading.Event,
    started: Callable[[RunningServer], None],
) -> None:
    files = server_tls_files(settings)
    app = make_app(context)
    contexts = [files.context(asks_for_certificate=True), files.context(asks_for_certificate=False)]
    listeners = [
        Listener(
            name,
            app,
            listen,
            tls,
            deadline_seconds=settings.request_seconds,
            max_connections=settings.max_connections,
        )
        for name, listen, tls in (
            (AGENTS, settings.agent_listen, contexts[0]),
            (ADMINISTRATION, settings.admin_listen, contexts[1]),
        )
    ]
    with _signals(stop):
        serving = [asyncio.create_task(listener.serve()) for listener in listeners]
        background = [asyncio.create_task(reload_certificates(files, contexts))]
        background.append(asyncio.create_task(context.policy_board.run()))
        await asyncio.gather(*(listener.is_listening.wait() for listener in listeners))
        context.counts.start()
        context.scheduler.start(context)
        running = RunningServer(listeners[0].port, listeners[1].port, context)
        _log.info("server is listening", agent_port=running.agent_port, admin_port=running.admin_port)
        started(running)
        while not stop.is_set():  # noqa: ASYNC110 - whoever sets it may be another thread
            await asyncio.sleep(_POLL_SECONDS)
        await _end(context, listeners, serving, background)


async def _end(
    context: ServerContext,
    listeners: list[Listener],
    serving: list[asyncio.Task[None]],
    background: list[asyncio.Task[None]],
) -> None:
    _log.info("server is stopping")
    context.policy_board.close()  # whoever waits for a policy is answered now
    for listener in listeners:
        listener.should_exit = True
    await asyncio.gather(*serving)
    for task in background:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*background, return_exceptions=True)
    await asyncio.to_thread(context.ingest.close)
    await asyncio.to_thread(context.scheduler.stop)
    await asyncio.to_thread(context.counts.close)
    _log.info("server stopped")


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

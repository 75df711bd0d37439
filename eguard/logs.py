"""Log set-up: one line an event, JSON for machines and colours for people."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog


def configure_logging(
    *, json_lines: bool | None = None, verbose: bool = False, quiet: bool = False, stream: TextIO | None = None
) -> None:
    """Send structlog events to `stream` (standard error by default).

    Parameters
    ----------
    json_lines : bool, optional
        JSON lines instead of the console form; by default JSON unless the stream is a terminal.
    verbose : bool
        Show debug events too.
    quiet : bool
        Show warnings and worse only: a simulation of many agents says itself how far it is.
    stream : TextIO, optional
        Where to write.
    """
    out = stream or sys.stderr
    as_json = json_lines if json_lines is not None else not out.isatty()
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(sort_keys=True) if as_json else structlog.dev.ConsoleRenderer()
    )
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )

"""Keeping a long-lived process small after something large was read."""

from __future__ import annotations

import contextlib
import ctypes
import gc


def give_back_memory() -> None:
    """Let go of what reading a bundle left behind, and spare what stays from every later collection.

    A bundle is a few hundred thousand small objects that live for weeks. Frozen, they are passed over by the collector,
    whose full runs would otherwise stop detection for tens of milliseconds. What the parsers used meanwhile goes back
    to the system where the C library can do that (glibc); elsewhere it stays with the process for later use.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)

"""The maps of loaded probes: records from the ring buffer, totals summed over the processors. Reads through libbpf."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from eguard.errors import SensorUnavailableError

#: By preference. Where bcc is packaged, one of them is there: bcc itself is built on it.
_LIBRARIES: Final = ("libbpf.so.1", "libbcc_bpf.so.0", "libbpf.so.0")
_RECORD_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


@cache
def load_libbpf() -> Any:
    """Return libbpf.

    Raises
    ------
    SensorUnavailableError
        It is not installed.
    """
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name, use_errno=True)
            library.ring_buffer__new.restype = ctypes.c_void_p
        except (OSError, AttributeError):
            continue
        library.ring_buffer__new.argtypes = [ctypes.c_int, _RECORD_CALLBACK, ctypes.c_void_p, ctypes.c_void_p]
        library.ring_buffer__poll.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.ring_buffer__consume.argtypes = [ctypes.c_void_p]
        library.ring_buffer__free.argtypes = [ctypes.c_void_p]
        library.ring_buffer__free.restype = None
        library.bpf_map_lookup_elem.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        return library
    raise SensorUnavailableError(
        f"none of the libraries {', '.join(_LIBRARIES)} is installed", remedy="sudo apt-get install libbpf1"
    )


class RingBuffer:
    """The reading end of a ring buffer.

    Parameters
    ----------
    descriptor : int
        The map.
    keep : callable
        Gets each record's bytes. When it returns False the round ends, and the rest waits in the ring.

    Raises
    ------
    SensorUnavailableError
        The map cannot be read.
    """

    def __init__(self, descriptor: int, keep: Callable[[bytes], bool]) -> None:
        self._library = load_libbpf()
        self._keep = keep
        # libbpf holds on to it; so must this object.
        self._callback = _RECORD_CALLBACK(self._record)
        self._ring = self._library.ring_buffer__new(descriptor, self._callback, None, None)
        if not self._ring:
            reason = os.strerror(ctypes.get_errno())
            raise SensorUnavailableError(
                f"the ring buffer cannot be mapped: {reason}", remedy="Choose --sensor proc_connector."
            )

    def poll(self, timeout_milliseconds: int) -> None:
        """Wait for records, then take what is there."""
        self._library.ring_buffer__poll(self._ring, timeout_milliseconds)

    def consume(self) -> None:
        """Take what is there."""
        self._library.ring_buffer__consume(self._ring)

    def close(self) -> None:
        """Unmap it."""
        if self._ring:
            self._library.ring_buffer__free(self._ring)
            self._ring = None

    def _record(self, _context: Any, data: int, size: int) -> int:
        return 0 if self._keep(ctypes.string_at(data, size)) else -errno.EAGAIN


class ProcessorTotals:
    """A per-processor array of 64-bit counters.

    Parameters
    ----------
    descriptor : int
        The map.
    """

    def __init__(self, descriptor: int) -> None:
        self._library = load_libbpf()
        self._descriptor = descriptor
        self._shares = (ctypes.c_uint64 * max(self._library.libbpf_num_possible_cpus(), 1))()

    def total(self, index: int) -> int:
        """Return one counter's sum over the processors; 0 if the array has no such counter."""
        key = ctypes.c_uint32(index)
        if self._library.bpf_map_lookup_elem(self._descriptor, ctypes.byref(key), self._shares):
            return 0
        return sum(self._shares)

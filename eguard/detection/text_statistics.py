"""Entropies and compressibility of command lines, names and paths: how random a text looks.

Each statistic has a form for one string of bytes, and `byte_statistics` for many texts at once, which computes every
distinct text once and all of them with array operations.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log2
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Only so much of a text is looked at. Windows allows no longer command line, and it bounds what a hostile one costs.
MAX_TEXT_BYTES: Final = 32_768
#: Texts whose histograms are held at once: 256 of 256 counts of 8 bytes stay in the processor's cache.
_BLOCK_TEXTS: Final = 256
#: Compression is remembered for short texts only, so that the memory lies below 16 MiB whatever comes.
_REMEMBERED_BYTES: Final = 1024
_REMEMBERED_TEXTS: Final = 8192

_COUNTS: Final = np.arange(MAX_TEXT_BYTES + 1, dtype=np.float64)
_COUNT_LOG2_COUNT: Final = _COUNTS * np.log2(np.maximum(_COUNTS, 1.0))


def text_bytes(text: str) -> bytes:
    r"""Return the bytes of a text that count: UTF-8, cut at `MAX_TEXT_BYTES`; lone surrogates are let through.

    Examples
    --------
    >>> text_bytes("a\udc80")
    b'a\xed\xb2\x80'
    """
    return text[:MAX_TEXT_BYTES].encode("utf-8", "surrogatepass")[:MAX_TEXT_BYTES]


def shannon_entropy_bits(data: bytes) -> float:
    """Return the Shannon entropy of the bytes, in bits a byte, from 0 to 8; 0 for none.

    Examples
    --------
    >>> shannon_entropy_bits(b"aabb"), shannon_entropy_bits(b"abcd"), shannon_entropy_bits(b"")
    (1.0, 2.0, 0.0)
    """
    n = len(data)
    return max(log2(n) - sum(count * log2(count) for count in Counter(data).values()) / n, 0.0) if n else 0.0


def renyi2_entropy_bits(data: bytes) -> float:
    """Return the Renyi entropy of order 2 of the bytes, -log2(sum of squared shares), in bits; 0 for none.

    Examples
    --------
    >>> renyi2_entropy_bits(b"aabb")
    1.0
    """
    n = len(data)
    return 2.0 * log2(n) - log2(sum(count * count for count in Counter(data).values())) if n else 0.0


def min_entropy_bits(data: bytes) -> float:
    """Return the min-entropy of the bytes, -log2(largest share), in bits; 0 for none.

    Examples
    --------
    >>> min_entropy_bits(b"aabc")
    1.0
    """
    return log2(len(data)) - log2(max(Counter(data).values())) if data else 0.0


def compressed_fraction(data: bytes) -> float:
    """Return compressed over raw length (zlib, level 1), at most 1; 0 for no bytes.

    Examples
    --------
    >>> compressed_fraction(b"abc"), compressed_fraction(b"a" * 1000) < 0.05
    (1.0, True)
    """
    if not data:
        return 0.0
    return _remembered_fraction(data) if len(data) <= _REMEMBERED_BYTES else _fraction(data)


def _fraction(data: bytes) -> float:
    return min(len(zlib.compress(data, level=1)) / len(data), 1.0)


_remembered_fraction = lru_cache(maxsize=_REMEMBERED_TEXTS)(_fraction)


@dataclass(frozen=True, slots=True)
class ByteStatistics:
    """Statistics of n texts, each of shape (n,); entropies in bits, 0 for an empty text."""

    n_bytes: NDArray[np.int64]
    separators: NDArray[np.int64]
    shannon_bits: NDArray[np.float64]
    renyi2_bits: NDArray[np.float64]
    min_entropy_bits: NDArray[np.float64]

    def take(self, rows: NDArray[np.intp]) -> ByteStatistics:
        """Return the statistics of the texts at `rows`."""
        return ByteStatistics(
            self.n_bytes[rows],
            self.separators[rows],
            self.shannon_bits[rows],
            self.renyi2_bits[rows],
            self.min_entropy_bits[rows],
        )


def byte_statistics(texts: Sequence[str]) -> ByteStatistics:
    """Return the statistics of many texts; equal texts are computed once.

    Cost is about two microseconds for each distinct text.

    Examples
    --------
    >>> statistics = byte_statistics(["aabb", "", "aabb", "/a/b"])
    >>> statistics.shannon_bits.tolist(), statistics.separators.tolist()
    ([1.0, 0.0, 1.0, 1.5], [0, 0, 0, 2])
    """
    distinct, rows = distinct_texts(texts)
    data = [text_bytes(text) for text in distinct]
    blocks = [_block_statistics(data[start : start + _BLOCK_TEXTS]) for start in range(0, len(data), _BLOCK_TEXTS)]
    if not blocks:
        blocks = [_block_statistics([])]
    joined = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return ByteStatistics(*joined).take(rows)


def distinct_texts(texts: Sequence[str]) -> tuple[list[str], NDArray[np.intp]]:
    """Return the distinct texts in order of appearance, and for each text its position among them.

    Examples
    --------
    >>> names, rows = distinct_texts(["b", "a", "b"])
    >>> names, rows.tolist()
    (['b', 'a'], [0, 1, 0])
    """
    position: dict[str, int] = {}
    rows = np.fromiter((position.setdefault(text, len(position)) for text in texts), np.intp, len(texts))
    return list(position), rows


def _block_statistics(data: list[bytes]) -> tuple[NDArray[np.int64] | NDArray[np.float64], ...]:
    n_bytes = np.array([len(part) for part in data], np.int64)
    owner = np.repeat(np.arange(len(data)), n_bytes)
    values = np.frombuffer(b"".join(data), np.uint8)
    histogram = np.bincount(owner * 256 + values, minlength=256 * len(data)).reshape(len(data), 256)
    length = np.maximum(n_bytes, 1).astype(np.float64)
    log_length = np.log2(length)
    shannon = np.maximum(log_length - _COUNT_LOG2_COUNT[histogram].sum(axis=1) / length, 0.0)
    renyi2 = 2.0 * log_length - np.log2(np.maximum((histogram * histogram).sum(axis=1), 1))
    smallest = log_length - np.log2(np.maximum(histogram.max(axis=1, initial=0), 1))
    separators = histogram[:, ord("/")] + histogram[:, ord("\\")]
    return n_bytes, separators, shannon, renyi2, smallest

"""Who is in a canary: a hash of the agent's name, so that everybody computes the same cohort without asking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Buckets of a hundredth of a percent.
BUCKETS: Final = 10_000
_DIGEST_BYTES: Final = 8
_LINES_AT_ONCE: Final = 65_536


def canary_bucket(agent_id: str, salt: str) -> int:
    """Return the agent's bucket in [0, 10000) under a rollout's salt.

    Parameters
    ----------
    agent_id : str
        Name of the agent.
    salt : str
        The rollout id, at most 64 bytes. Another rollout deals the agents anew.

    Notes
    -----
    BLAKE2b of 8 bytes, keyed by the salt, read big-endian, modulo 10,000. The remainder favours low buckets by less
    than one part in 10^15.

    Examples
    --------
    >>> canary_bucket("agent-31bbb93f38b4", "mlops-rollout")
    8892
    """
    digest = blake2b(agent_id.encode(), digest_size=_DIGEST_BYTES, key=salt.encode()).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def bucket_limit(percent: float) -> int:
    """Return the first bucket outside a share of `percent`, in steps of 0.01.

    Examples
    --------
    >>> bucket_limit(0.29), bucket_limit(100)
    (29, 10000)
    """
    return round(percent * 100)


def in_canary(agent_id: str, salt: str, percent: float) -> bool:
    """Return whether the agent is among the chosen `percent` of a rollout.

    Cohorts are nested: whoever is in at a share is in at every larger one.
    """
    return canary_bucket(agent_id, salt) < bucket_limit(percent)


def canary_buckets(agent_ids: Iterable[bytes | str], salt: str) -> NDArray[np.int64]:
    """Return the buckets of many agents, in their order.

    Parameters
    ----------
    agent_ids : iterable of bytes or str
        Names; bytes are taken as the UTF-8 of one.
    salt : str
        The rollout id.

    Returns
    -------
    ndarray of shape (n,), int64
        Equal to `canary_bucket` of each.

    Notes
    -----
    The keyed state is made once and copied; a million names take about a second.

    Examples
    --------
    >>> canary_buckets(["agent-31bbb93f38b4", b"agent-31bbb93f38b4"], "mlops-rollout")
    array([8892, 8892])
    """
    keyed = blake2b(digest_size=_DIGEST_BYTES, key=salt.encode())
    digests = bytearray()
    for agent_id in agent_ids:
        state = keyed.copy()
        state.update(agent_id if isinstance(agent_id, bytes) else agent_id.encode())
        digests += state.digest()
    return (np.frombuffer(bytes(digests), dtype=">u8") % np.uint64(BUCKETS)).astype(np.int64)


def deal_lines(lines: Iterable[bytes], salt: str, percent: float) -> Iterator[tuple[list[bytes], list[int], int]]:
    r"""Deal names, one a line, into buckets; many lines at a time.

    Parameters
    ----------
    lines : iterable of bytes
        Lines as a binary stream gives them; blank ones are left out.
    salt : str
        The rollout id.
    percent : float
        The share.

    Yields
    ------
    names : list of bytes
    buckets : list of int
        Theirs, in the same order.
    limit : int
        A bucket below it is in.

    Examples
    --------
    >>> list(deal_lines([b"agent-31bbb93f38b4\r\n", b"\n"], "mlops-rollout", 5))
    [([b'agent-31bbb93f38b4'], [8892], 500)]
    """
    source = iter(lines)
    while chunk := list(islice(source, _LINES_AT_ONCE)):
        names = [name for line in chunk if (name := line.rstrip(b"\r\n"))]
        yield names, canary_buckets(names, salt).tolist(), bucket_limit(percent)

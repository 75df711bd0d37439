"""A block of votes, and the one function that every engine runs on it: pure, so that it may run anywhere.

Votes travel as one array of packed records, which a process hands to another one as it lies in memory.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.errors import EstimatorInputError, FleetStoreError
from eguard.events import N_EVENT_CLASSES
from eguard.fleet.kernel import AggregationRules, ShardResult, Votes, aggregate_votes

#: One vote. `key` and `voter` are numbers that the reader gave out, `expiry_hour` counts hours since 1970; means are on
#: the log1p scale, NaN where an agent has none.
VOTE: Final = np.dtype(
    [
        ("key", "<i4"),
        ("voter", "<i4"),
        ("samples", "<i8"),
        ("probabilities", "<f4", (N_EVENT_CLASSES,)),
        ("interarrival", "<f8"),
        ("payload", "<f8"),
        ("expiry_hour", "<i4"),
    ]
)
Records = NDArray[Any]


class Block(NamedTuple):
    """The votes of whole keys, by key and by the voters' ranks; those of key i start at ``starts[i]``.

    Attributes
    ----------
    keys : list of str
        In order.
    starts : ndarray of intp, shape (n_keys,)
    records : ndarray of `VOTE`, shape (n_votes,)
    tokens : ndarray of int64, shape (n_votes,)
        `eguard.fleet.voters.token_code` of each voter.
    """

    keys: list[str]
    starts: NDArray[np.intp]
    records: Records
    tokens: NDArray[np.int64]


class BlockResult(NamedTuple):
    """What became of a block's keys, and the hour since 1970 in which the first of each key's votes expires."""

    result: ShardResult
    expiry_hours: list[int]

    @property
    def votes(self) -> int:
        """Votes in the block, whether they count or not."""
        return sum(
            tally.votes + tally.votes_below_min_samples + tally.votes_beyond_token_share
            for tally in self.result.tallies
        )


def aggregate_block(block: Block, rules: AggregationRules) -> BlockResult:
    """Aggregate a block's keys. The result of a key does not depend on the block that it is in.

    Parameters
    ----------
    block : Block
    rules : AggregationRules

    Raises
    ------
    FleetStoreError
        ``invalid_votes``: the database holds what is no distribution; uploads that are none are refused, so somebody
        else wrote it.
    """
    records = block.records
    # A copy: the kernel wants its columns end to end, and they are strewn among the records.
    probabilities = records["probabilities"].astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # float32 left the sum a few 1e-8 off
    votes = Votes(
        keys=block.keys,
        starts=block.starts,
        probabilities=probabilities,
        samples=records["samples"].astype(np.int64),
        interarrival=records["interarrival"].astype(np.float64),
        payload=records["payload"].astype(np.float64),
        tokens=block.tokens,
    )
    hours = np.minimum.reduceat(records["expiry_hour"], block.starts)
    try:
        return BlockResult(aggregate_votes(votes, rules), hours.tolist())
    except EstimatorInputError as error:
        raise FleetStoreError(
            f"rows of endpoint_baseline between the keys {block.keys[0]} and {block.keys[-1]} are no votes: {error}",
            remedy="Look at their distribution_vector, and remove those that eGuard did not write.",
            reason="invalid_votes",
        ) from error

"""What the store keeps about the baseline as a whole, beside its profiles."""

from __future__ import annotations

import enum
import math
import struct
from dataclasses import astuple, dataclass
from typing import Final

from eguard.baseline.byte_reader import ByteReader
from eguard.errors import StoreCorruptError

_LAYOUT: Final = "<Bdddqqq"


class BaselineStatus(enum.IntEnum):
    """How far the baseline is."""

    LEARNING = 0
    ACTIVE = 1
    STALE = 2


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """Facts that change with the baseline and are written with every record.

    Parameters
    ----------
    status : BaselineStatus
        Whether the baseline is being learned, in use, or too old.
    learning_started, learning_completed, last_observed : float
        Seconds since the epoch; NaN before it happened.
    sequence : int
        Sequence number of the latest change of any profile.
    uploaded_sequence : int
        Highest sequence number that the server has acknowledged.
    policy_revision : int
        Revision of the policy that was applied last.
    """

    status: BaselineStatus = BaselineStatus.LEARNING
    learning_started: float = math.nan
    learning_completed: float = math.nan
    last_observed: float = math.nan
    sequence: int = 0
    uploaded_sequence: int = 0
    policy_revision: int = 0

    def encode(self) -> bytes:
        """Return the facts as bytes."""
        return struct.pack(_LAYOUT, *astuple(self))

    @classmethod
    def decode(cls, reader: ByteReader) -> StoreFacts:
        """Read the facts; StoreCorruptError if they cannot be any."""
        status, started, completed, observed, *numbers = reader.unpack(_LAYOUT)
        if status > max(BaselineStatus) or min(numbers) < 0:
            raise StoreCorruptError(f"status {status} or the numbers {numbers} cannot be")
        return cls(BaselineStatus(status), started, completed, observed, *numbers)

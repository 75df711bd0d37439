"""What an endpoint learns about its processes: profiles, seeds, what is uploaded of them and what is kept on disk."""

from eguard.baseline.facts import BaselineStatus, StoreFacts
from eguard.baseline.held import HeldWindow, HeldWindows
from eguard.baseline.moments import MomentColumns
from eguard.baseline.priors import PriorTable
from eguard.baseline.profile import DEFAULT_CAPACITY, ProfileTable
from eguard.baseline.seed import apply_fleet_seed, priors_from_rows, withdraw_fleet_seed
from eguard.baseline.slots import NO_SLOT, ProcessKey, SlotIndex
from eguard.baseline.store import BaselineStore
from eguard.baseline.upload import BATCH_PROFILES, PackedUploads, pack_uploads, to_wire

__all__ = [
    "BATCH_PROFILES",
    "DEFAULT_CAPACITY",
    "NO_SLOT",
    "BaselineStatus",
    "BaselineStore",
    "HeldWindow",
    "HeldWindows",
    "MomentColumns",
    "PackedUploads",
    "PriorTable",
    "ProcessKey",
    "ProfileTable",
    "SlotIndex",
    "StoreFacts",
    "apply_fleet_seed",
    "pack_uploads",
    "priors_from_rows",
    "to_wire",
    "withdraw_fleet_seed",
]

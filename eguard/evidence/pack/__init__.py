"""The evidence pack: a folder of plain files, a manifest with the SHA-256 of each, and a signature over it."""

from eguard.evidence.pack.collect import Sources, collect_pack
from eguard.evidence.pack.verify import verify_pack
from eguard.evidence.pack.writer import MANIFEST_NAME, PACK_TYPE, SEAL_NAME

__all__ = ["MANIFEST_NAME", "PACK_TYPE", "SEAL_NAME", "Sources", "collect_pack", "verify_pack"]

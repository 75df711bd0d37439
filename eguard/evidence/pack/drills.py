"""Records of drills, as they were signed, and how the readiness gate stood when the pack was made."""

from __future__ import annotations

from eguard.errors import EvidenceError
from eguard.evidence.pack.writer import PackWriter
from eguard.evidence.readiness.gate import judge_readiness
from eguard.evidence.readiness.page import readiness_page
from eguard.evidence.readiness.records import RecordFolder
from eguard.evidence.signing import Custody
from eguard.evidence.surroundings import authority_here


def collect_drills(pack: PackWriter, custody: Custody, now: float) -> None:
    """Take every record whose signature holds, and the gate's verdict."""
    with pack.section("drills") as section:
        records = RecordFolder(custody)
        for name in records.names():
            try:
                pack.add_clean(section, f"{name}.dsse.json", records.sealed(name))
            except EvidenceError as error:
                pack.miss(section, f"{name}: {error}")
        found = judge_readiness(records, now, authority=authority_here())
        pack.add_json(section, "readiness", found.to_dict())
        pack.add_text(section, "readiness.html", readiness_page(found))

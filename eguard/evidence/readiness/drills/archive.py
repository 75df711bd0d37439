"""The evidence pack that was archived: its signature holds, and it has what the gate asks for."""

from __future__ import annotations

from typing import Final

from eguard.errors import EvidenceError
from eguard.evidence.readiness.course import Course, DrillOptions

TITLE: Final = "Verify an archived evidence pack, and that logs, SQL outputs and screenshots are in it"
_SECTIONS: Final = ("logs", "sql", "screenshots")
_MAX_AGE_SECONDS: Final = 30 * 86_400.0


def run(course: Course, options: DrillOptions) -> None:
    """Run the drill."""
    if options.pack is None:
        raise EvidenceError(
            "no evidence pack was named",
            remedy="Collect one (eguard evidence collect --out PACK) and give --pack PACK.",
        )
    found = course.run("evidence", "verify", str(options.pack.absolute()))
    n_files = len(found["files"])
    course.check("files verified", n_files, "at least 1, none changed, missing or added", passed=n_files > 0)
    for name in _SECTIONS:
        section = found["sections"].get(name, {"state": "absent", "missing": []})
        seen = {"state": section["state"], "missing": section["missing"]}
        course.check(name, seen, "present", passed=section["state"] == "present")
    age = course.now() - found["collected_at_unix"]
    course.check("days since it was collected", round(age / 86_400.0, 2), "at most 30", passed=age <= _MAX_AGE_SECONDS)
    course.check("its manifest, for whoever keeps the archive", found["manifest_sha256"], "SHA-256", passed=True)

"""The bundle's way to this endpoint: signatures, expiry, and counts that corroborate."""

from __future__ import annotations

from typing import Final

from eguard.evidence.readiness.course import Course, DrillOptions
from eguard.evidence.readiness.doctor import examine

TITLE: Final = "Fetch the bundle as this endpoint's agent does: signatures, expiry, counts; and what agents run"
_CHECKS: Final = ("bundle_signature", "bundle_expiry", "bundle_content")


def run(course: Course, options: DrillOptions) -> None:  # noqa: ARG001 - every drill is called alike
    """Run the drill."""
    examine(course, _CHECKS)
    if course.has_database:
        from eguard.evidence.readiness.fleet_questions import bundles_in_use  # noqa: PLC0415 - an endpoint has no SQL

        rows = course.rows("bundles that active agents run", bundles_in_use(course.now()))
        without = sum(row["agents"] for row in rows if not row["bundle_version"])
        course.check("agents that run without a bundle", without, "none", passed=not without)

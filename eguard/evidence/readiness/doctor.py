"""What `eguard doctor` finds, as checks of a drill."""

from __future__ import annotations

from collections.abc import Sequence

from eguard.evidence.readiness.course import Course


def examine(course: Course, names: Sequence[str]) -> None:
    """Run some of the doctor's checks on this machine. Nothing but `ok` passes: a gate has no use for a maybe."""
    chosen = [word for name in names for word in ("--check", name)]
    found = {each["name"]: each for each in course.run("doctor", *chosen, accepted=(0, 1))["checks"]}
    for name in names:
        check = found.get(name, {"state": "missing", "cause": "the doctor has no such check"})
        course.check(f"doctor: {name}", f"{check['state']}: {check['cause']}", "ok", passed=check["state"] == "ok")

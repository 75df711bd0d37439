"""The runbook of a drift alarm, practised on a fleet of its own: frozen, explained, rolled back, liars named."""

from __future__ import annotations

from typing import Final

from eguard.evidence.readiness.course import Course, DrillOptions

TITLE: Final = "Practise the drift runbook on a simulated fleet: freeze, explain, roll seeds back, quarantine"
_STEPS: Final = ("Go back to the last good generation", "Take the liars' votes", "Every step is on record")


def run(course: Course, options: DrillOptions) -> None:  # noqa: ARG001 - every drill is called alike
    """Run the drill."""
    answer = course.run("simulate", "drill", is_apart=True)
    titles = [step["title"] for step in answer["steps"]]
    course.check("the drill is complete", answer["complete"], "true", passed=answer["complete"] is True)
    for title in _STEPS:
        step = next((step for step in answer["steps"] if step["title"] == title), None)
        course.check(title, None if step is None else step["facts"], "done", passed=step is not None)
    course.check("steps", len(titles), "all of them, with an alarm of each kind", passed=len(titles) > len(_STEPS))

"""The runbook of a drift alarm, practised on one machine: an attack that is undone, and a change that is approved."""

from eguard.simulate.drill.course import DrillOptions, run_drill

__all__ = ["DrillOptions", "run_drill"]

"""The fleet's loop on one machine: a real server, real agents as processes, and the commands that an operator types."""

from eguard.simulate.loop.course import LoopOptions, Step, run_loop

__all__ = ["LoopOptions", "Step", "run_loop"]

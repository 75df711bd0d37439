"""What the agents of a drill do: each has behaviours of its own, as alike as programs on different machines are."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.events import N_EVENT_CLASSES, EventClass
from eguard.wire.baseline import BaselineRow, entropy_threshold
from eguard.wire.distribution import distribution_from_vector

Floats = NDArray[np.float64]

#: How alike agents are: concentration of their behaviours around the program's.
_CONCENTRATION: Final = 60.0
#: Events of a profile, new in every cycle: the divergences of cycles are then independent.
EVENTS: Final = 1000
#: What behaviours move towards, in a change of work and in an attack.
TARGET: Final = np.eye(N_EVENT_CLASSES)[int(EventClass.NETWORK_CONNECT)]


class Behaviours:
    """Programs and agents, drawn once; uploads of every cycle drawn from them.

    Parameters
    ----------
    agents : list of str
    keys : int
        Programs, each on every agent.
    rng : numpy.random.Generator
    """

    def __init__(self, agents: list[str], keys: int, rng: np.random.Generator) -> None:
        self.agents = agents
        self.keys = [f"program-{number:02d}:init" for number in range(keys)]
        self._rng = rng
        self._sequence = 0
        programs = rng.dirichlet(np.full(N_EVENT_CLASSES, 2.0), keys)
        self._own: Floats = np.array([[rng.dirichlet(_CONCENTRATION * each) for each in programs] for _ in agents])

    def change(self, share: float) -> None:
        """Have everybody do something else from now on: a share of all events becomes network connections."""
        self._own = (1.0 - share) * self._own + share * TARGET

    def cycle(self, lies: dict[str, float]) -> dict[str, list[BaselineRow]]:
        """Return every agent's upload; `lies` says who walks to the target, and what part of the way."""
        self._sequence += 1
        return {
            agent: [
                self._row(key, (1.0 - lies.get(agent, 0.0)) * own + lies.get(agent, 0.0) * TARGET)
                for key, own in zip(self.keys, behaviour, strict=True)
            ]
            for agent, behaviour in zip(self.agents, self._own, strict=True)
        }

    def _row(self, key: str, shares: Floats) -> BaselineRow:
        counts = self._rng.multinomial(EVENTS, shares / shares.sum())
        return BaselineRow(
            process_key=key,
            event_distribution=distribution_from_vector(counts / EVENTS),
            sample_count=EVENTS,
            entropy_threshold=entropy_threshold(EVENTS),
            learned_at_unix=time.time(),
            seq=self._sequence,
        )

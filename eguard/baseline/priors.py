"""Fleet seeds waiting for their key: one generation at a time, bounded, apart from everything learned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.slots import ProcessKey
from eguard.events import N_EVENT_CLASSES
from eguard.wire.process_key import FLEET_PARENT


class PriorTable:
    """Prior means of the current fleet generation by process key.

    A key that an endpoint has not seen yet finds its seed here when it first appears. An imported seed that names a
    program only (parent ``fleet``) serves every parent that has no seed of its own.

    Parameters
    ----------
    max_rows : int
        Most seeds kept; a longer list is cut at its end, and `dropped_total` counts the rest.

    Examples
    --------
    >>> seeds = PriorTable(max_rows=10)
    >>> seeds.replace({("nginx", "fleet"): np.full(8, 0.125)}, generation=3)
    >>> seeds.find(("nginx", "systemd")).sum(), seeds.find(("bash", "sshd")) is None
    (np.float64(1.0), True)
    """

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.generation = 0
        self.dropped_total = 0
        self._row_of: dict[ProcessKey, int] = {}
        self._means = np.zeros((0, N_EVENT_CLASSES))

    def __len__(self) -> int:
        return len(self._row_of)

    def replace(self, priors: Mapping[ProcessKey, NDArray[np.float64]], generation: int) -> None:
        """Take the seeds of `generation` (at least 1; 0 with no priors withdraws all) instead of the earlier ones."""
        kept = list(priors.items())[: self.max_rows]
        self.dropped_total += len(priors) - len(kept)
        self._row_of = {key: row for row, (key, _) in enumerate(kept)}
        self._means = np.array([mean for _, mean in kept]).reshape(-1, N_EVENT_CLASSES)
        self.generation = generation

    def items(self) -> list[tuple[ProcessKey, NDArray[np.float64]]]:
        """Return (key, prior mean) of all seeds, in the order they were given."""
        return [(key, self._means[row]) for key, row in self._row_of.items()]

    def find(self, key: ProcessKey) -> NDArray[np.float64] | None:
        """Return the prior mean for `key`, or None."""
        row = self._row_of.get(key)
        if row is None:
            row = self._row_of.get((key[0], FLEET_PARENT))
        return None if row is None else self._means[row]

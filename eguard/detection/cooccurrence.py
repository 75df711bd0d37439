"""The same rule on several hosts at once: feature 42, which only the server sees."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

COOCCURRENCE_WINDOW_SECONDS: Final = 300.0
#: Other hosts at which the feature, log2(1 + n)/8, reaches 1.
MAX_OTHER_HOSTS: Final = 255
#: Rules remembered by fleet; the least recently seen is forgotten first.
MAX_RULES: Final = 4096


class FleetCooccurrence:
    """How many other hosts of a fleet showed the same rule in the last 300 s (feature 42).

    Alerts of all hosts come in time order, as they do at the server's ingest. The last 256 hosts of a rule are
    remembered, which is where the feature saturates, for the 4,096 rules seen most recently.

    Examples
    --------
    >>> fleet = FleetCooccurrence()
    >>> fleet.update(["a", "b", "a", "c"], ["R", "R", "R", "R"], [0.0, 10.0, 20.0, 311.0]).tolist()
    [0, 1, 1, 1]
    """

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    def update(
        self, host_ids: Sequence[str], rule_ids: Sequence[str], time_unix: Sequence[float] | NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Return the number of other hosts for each alert, shape (n,), and learn the alerts."""
        counts = []
        for host, rule, time in zip(host_ids, rule_ids, np.asarray(time_unix, np.float64).tolist(), strict=True):
            hosts = self._hosts.setdefault(rule, OrderedDict())
            self._hosts.move_to_end(rule)
            if len(self._hosts) > MAX_RULES:
                self._hosts.popitem(last=False)
            hosts[host] = time
            hosts.move_to_end(host)
            while True:
                oldest = next(iter(hosts))
                if hosts[oldest] > time - COOCCURRENCE_WINDOW_SECONDS and len(hosts) <= MAX_OTHER_HOSTS + 1:
                    break
                del hosts[oldest]
            counts.append(len(hosts) - 1)
        return np.array(counts, np.int64)

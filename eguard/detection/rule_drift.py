"""Drift of a network's alert stream: feature 23 for alerts of other engines, of which no process is known.

Process keys have windows over event classes. A network of which only alerts are known has windows over *rules*: the 63
commonest of its first day and `other`. Everything else is as for a process key: a window of 128 closes, its KL from the
baseline and its rate go to the same Page-Hinkley detectors with the same settings, and only then is it learned.

Alerts of all hosts come in time order, as at a server's ingest; an agent sees its own host alone, so that there the
feature stays 0 for such alerts, as feature 42 does. Labels play no part and nothing looks ahead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.drift import ALARM_SECONDS, DriftBank
from eguard.detection.engine_options import WindowOptions
from eguard.estimators import kl_divergence_bits

#: Rules with a class of their own; what comes later, or is rarer, is `other`.
NAMED_RULES: Final = 63
#: A network is only watched for this long: its rules are not known before.
LEARNING_SECONDS: Final = 86_400.0
#: Rules counted while a network is watched; what is first seen after that many is `other` anyway.
MAX_RULES: Final = 4096
_SLOT: Final = np.zeros(1, dtype=np.intp)


def commonest_rules(rules: Counter[str]) -> dict[str, int]:
    """Return the class of each named rule: by falling count, equal counts by name.

    Examples
    --------
    >>> commonest_rules(Counter({"b": 2, "a": 2, "c": 9}))
    {'c': 0, 'a': 1, 'b': 2}
    """
    ordered = sorted(rules.items(), key=lambda item: (-item[1], item[0]))
    return {rule: index for index, (rule, _) in enumerate(ordered[:NAMED_RULES])}


class RuleDrift:
    """Drift and rate alarms of one network's rules, streaming and bounded.

    Parameters
    ----------
    options : WindowOptions, optional
        Size of a window and settings of the detectors; those of process keys by default.

    Examples
    --------
    >>> drift = RuleDrift()
    >>> drift.update(["scan"] * 3, [0.0, 60.0, 90_000.0]).tolist()
    [0, 0, 0]
    """

    def __init__(self, options: WindowOptions | None = None) -> None:
        self._options = options or WindowOptions()
        self._bank = DriftBank(1, self._options)
        self._first_day: Counter[str] = Counter()
        self._learned_at = np.inf
        self._clock = -np.inf
        self._classes: dict[str, int] | None = None
        self._baseline = np.zeros(NAMED_RULES + 1)
        self._window = np.zeros(NAMED_RULES + 1)
        self._opened = 0.0
        self.alarms = 0

    def update(self, rule_ids: Sequence[str], time_unix: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
        """Return for each alert the network's drift and rate alarms of the last hour, its own included.

        Parameters
        ----------
        rule_ids : sequence of str, length n
            Rules of the alerts.
        time_unix : sequence of float, length n
            Rising; a late alert counts as of the latest one.

        Returns
        -------
        ndarray of int64, shape (n,)
            At most the number at which feature 23 saturates.
        """
        counts = np.zeros(len(rule_ids), np.int64)
        if not counts.size:
            return counts
        times = np.maximum(np.maximum.accumulate(np.asarray(time_unix, np.float64)), self._clock)
        self._clock = float(times[-1])
        if not np.isfinite(self._learned_at):
            self._learned_at = float(times[0]) + LEARNING_SECONDS
        start = int(np.searchsorted(times, self._learned_at))
        self._watch(rule_ids[:start])
        if start < len(times):
            named = self._named()
            classes = np.array([named.get(rule, NAMED_RULES) for rule in rule_ids[start:]], np.intp)
            counts[start:] = self._test(classes, times[start:])
        return counts

    def _watch(self, rule_ids: Sequence[str]) -> None:
        """Count the rules of the first day."""
        for rule in rule_ids:
            if rule in self._first_day or len(self._first_day) < MAX_RULES:
                self._first_day[rule] += 1

    def _named(self) -> dict[str, int]:
        """Return the classes; the first call ends the watch and makes the first day the baseline."""
        if self._classes is None:
            self._classes = commonest_rules(self._first_day)
            for rule, count in self._first_day.items():
                self._baseline[self._classes.get(rule, NAMED_RULES)] += count
            self._first_day.clear()
        return self._classes

    def _test(self, classes: NDArray[np.intp], times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Fill and close windows; return the alarms of the last hour at each alert."""
        counts = np.empty(len(classes), np.int64)
        start = 0
        while start < len(classes):
            room = self._options.window_events - int(self._window.sum())
            stop = min(start + room, len(classes))
            if room == self._options.window_events:
                self._opened = float(times[start])
            self._window += np.bincount(classes[start:stop], minlength=NAMED_RULES + 1)
            counts[start:stop] = self._recent(times[start:stop])
            if stop - start == room:
                self._close(float(times[stop - 1]))
                counts[stop - 1] = self._recent(times[stop - 1 : stop])[0]
            start = stop
        return counts

    def _close(self, ended: float) -> None:
        """Test the full window, then learn it."""
        divergence = kl_divergence_bits(self._window, self._baseline)
        alarmed = (
            *self._bank.update_divergence(_SLOT, np.array([divergence])).tolist(),
            *self._bank.update_rate(_SLOT, np.array([ended - self._opened])).tolist(),
        )
        for _ in range(sum(alarmed)):
            self._bank.note_alarm(0, ended)
            self.alarms += 1
        self._baseline += self._window
        self._window[:] = 0.0

    def _recent(self, times: NDArray[np.float64]) -> NDArray[np.int64]:
        alarms = np.array(self._bank.alarms(0))
        result: NDArray[np.int64] = (times[:, np.newaxis] - alarms < ALARM_SECONDS).sum(axis=1)
        return result

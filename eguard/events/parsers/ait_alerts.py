"""Alerts of the AIT Alert Data Set: Wazuh, Suricata and AMiner over simulated company networks, labelled.

One row an alert: time, name, ip, host, short, time_label, event_label. An alert belongs to an attack if EITHER label
says so; the label of the log event itself goes before the one of the time window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from eguard.errors import ParseError
from eguard.events.columns import EventBatch
from eguard.events.model import EventClass
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.rows import Columns, CsvTable, translated
from eguard.events.parsers.scalars import Memo, time_from_seconds

COLUMNS: Final = ("time", "name", "ip", "host", "short", "time_label", "event_label")
DETECTORS: Final[dict[str, str]] = {"W": "wazuh", "S": "suricata", "A": "aminer"}
_BAD: Final = -1.0
_NO_ATTACK: Final = frozenset({"", "-", "false_positive"})


def read_batches(lines: LineReader, group: str) -> Iterator[EventBatch]:
    """Yield the alerts in small batches. `group` is the network; if empty it comes from the file name."""
    table = CsvTable(lines, COLUMNS)
    translator = _Translator(table.positions(COLUMNS), group or network_of(lines.path))
    yield from translated(table, translator, lines.report)


def network_of(path: Path) -> str:
    """Return the network that a file name stands for.

    Examples
    --------
    >>> network_of(Path("alerts/fox_alerts.csv.xz")), network_of(Path("site-b.csv"))
    ('fox', 'site-b')
    """
    return path.name.partition(".")[0].removesuffix("_alerts")


def attack_step(time_label: str, event_label: str) -> str:
    """Return the step of the attack that an alert belongs to, empty for none.

    Examples
    --------
    >>> attack_step("false_positive", "dnsteal"), attack_step("dirb", "-"), attack_step("false_positive", "-")
    ('dnsteal', 'dirb', '')
    """
    if event_label not in _NO_ATTACK:
        return event_label
    return "" if time_label in _NO_ATTACK else time_label


class _Translator:
    """Turns rows into columns and remembers the strings it has seen: a few hundred make up a million rows."""

    def __init__(self, order: Sequence[int], network: str) -> None:
        self._order = order
        self._network = network
        self._times, self._text = Memo(_time_or_bad), Memo(str)
        self._hosts = Memo(lambda host: f"{network}/{host}")
        self._detectors = Memo(lambda rule: DETECTORS.get(rule[0], ""))
        self._labels: dict[tuple[str, str], str] = {}

    def faults(self, columns: Columns) -> list[str]:
        """Name the fault of each row, empty for a sound one; nothing at all if every row is sound."""
        at_time, _, _, at_host, at_rule, *_ = self._order
        times = list(map(self._times.__getitem__, columns[at_time]))
        hosts, rules = columns[at_host], columns[at_rule]
        if min(times) >= 0.0 and "" not in hosts and "" not in rules:
            return []
        return [
            "bad_time" if time < 0.0 else "no_host" if not host else "" if rule else "no_rule"
            for time, host, rule in zip(times, hosts, rules, strict=True)
        ]

    def batch(self, columns: Columns, sizes: list[int]) -> EventBatch:
        """Return sound rows as a batch."""
        time, name, _, host, rule, time_label, event_label = (columns[at] for at in self._order)
        one, rows = self._text.__getitem__, len(sizes)
        labels = list(zip(time_label, event_label, strict=True))
        for pair in set(labels) - self._labels.keys():
            self._labels[pair] = one(attack_step(*pair))
        return EventBatch(
            time_unix=list(map(self._times.__getitem__, time)),
            host_id=list(map(self._hosts.__getitem__, host)),
            event_class=[EventClass.ALERT] * rows,
            source=["ait"] * rows,
            event_type=["alert"] * rows,
            group=[self._network] * rows,
            target=list(map(one, name)),
            rule_id=list(map(one, rule)),
            detector=list(map(self._detectors.__getitem__, rule)),
            label=list(map(self._labels.__getitem__, labels)),
            # Without the label columns: a size that counted them would tell the label.
            event_bytes=[
                size - len(by_time) - len(by_event) - 2 for size, (by_time, by_event) in zip(sizes, labels, strict=True)
            ],
        )


def _time_or_bad(text: str) -> float:
    try:
        return time_from_seconds(text)
    except ParseError:
        return _BAD

"""Alerts of the AIT Alert Data Set: Wazuh, Suricata and AMiner over simulated company networks, labelled.

One row an alert: time, name, ip, host, short, time_label, event_label. An alert belongs to an attack if EITHER label
says so; the label of the log event itself goes before the one of the time window.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from eguard.errors import ParseError
from eguard.events.columns import EventBatch
from eguard.events.model import EventClass
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.repeating_rows import Columns, RepeatingRows
from eguard.events.parsers.scalars import Memo, time_from_seconds

COLUMNS: Final = ("time", "name", "ip", "host", "short", "time_label", "event_label")
DETECTORS: Final[dict[str, str]] = {"W": "wazuh", "S": "suricata", "A": "aminer"}
_BAD: Final = -1.0
_NO_ATTACK: Final = frozenset({"", "-", "false_positive"})


def read_batches(lines: LineReader, group: str) -> Iterator[EventBatch]:
    """Yield the alerts in small batches. `group` is the network; if empty it comes from the file name."""
    return RepeatingRows(lines, _AlertRows(group or network_of(lines.path))).batches()


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


class _AlertRows:
    """The time leads; the rest repeats."""

    columns = COLUMNS
    leading = 1

    def __init__(self, network: str) -> None:
        self._network = network
        self._times, self._text = Memo(_time_or_bad), Memo(str)

    def understand(self, tail: list[str]) -> tuple[Any, ...]:
        """Return host, alert text, rule, detector, label, and how many characters of the row the labels take.

        The address is the host's own and is left out.
        """
        name, _, host, short, time_label, event_label = tail
        if not host:
            raise ParseError("the alert names no host", reason="no_host")
        if not short:
            raise ParseError("the alert names no rule", reason="no_rule")
        values = (
            f"{self._network}/{host}",
            name,
            short,
            DETECTORS.get(short[0], ""),
            attack_step(time_label, event_label),
        )
        return (*map(self._text.__getitem__, values), len(time_label) + len(event_label) + 2)

    def lead_fault(self, lead: list[str]) -> str:
        """Name what is wrong with the time."""
        return "bad_time" if self._times[lead[0]] < 0.0 else ""

    def are_sound(self, leads: Columns) -> bool:
        """Tell whether all times are sound."""
        return min(map(self._times.__getitem__, leads[0])) >= 0.0

    def batch(self, leads: Columns, meanings: Columns, sizes: list[int]) -> EventBatch:
        """Return sound rows as a batch."""
        host_id, target, rule_id, detector, label, label_sizes = meanings
        return EventBatch(
            time_unix=list(map(self._times.__getitem__, leads[0])),
            host_id=host_id,
            event_class=[EventClass.ALERT] * len(sizes),
            source=["ait"] * len(sizes),
            event_type=["alert"] * len(sizes),
            group=[self._network] * len(sizes),
            target=target,
            rule_id=rule_id,
            detector=detector,
            label=label,
            # Without the label columns: a size that counted them would tell the label.
            event_bytes=[size - of_labels for size, of_labels in zip(sizes, label_sizes, strict=True)],
        )


def _time_or_bad(text: str) -> float:
    try:
        return time_from_seconds(text)
    except ParseError:
        return _BAD

"""What events match which rules: counts for reports, so that nobody has to guess how noisy a rule set is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from eguard.detection.rule_header import SEVERITY_FRACTION
from eguard.detection.rules import RuleSet
from eguard.events.columns import EventBatch
from eguard.events.parsers import read_batches, read_events
from eguard.mlops.workspace import Workspace

Progress = Callable[[str, int, int], None]

_DEFENDER_HOST: Final = Path("endpoint-other-formats", "mde_proc_cs1.csv.gz")


def match_census(ruleset: RuleSet, batches: Iterable[EventBatch], progress: Progress | None = None) -> dict[str, Any]:
    """Count matches by rule and the share of events matched by level.

    Parameters
    ----------
    ruleset : RuleSet
        The rules.
    batches : iterable of EventBatch
        The events, a batch at a time.
    progress : callable, optional
        Told (label, events done, 0): the number of events is not known beforehand.

    Returns
    -------
    dict
        ``events``, ``matched_events``, ``matched_fraction``, ``matched_fraction_by_level`` (events with at least one
        match of that level) and ``rules``: id, title, author, level and count of each rule with a match, most first.
    """
    events = matched = 0
    by_rule: Counter[int] = Counter()
    by_level: Counter[str] = Counter()
    for batch in batches:
        events += len(batch)
        for indices in filter(None, ruleset.match(batch)):
            matched += 1
            by_rule.update(indices)
            by_level.update({ruleset.rules[index].level for index in indices})
        if progress is not None:
            progress("rule census", events, 0)
    return {
        "events": events,
        "matched_events": matched,
        "matched_fraction": matched / events if events else 0.0,
        "matched_fraction_by_level": {level: by_level[level] / max(events, 1) for level in SEVERITY_FRACTION},
        "rules": [
            {name: getattr(ruleset.rules[index], name) for name in ("id", "title", "author", "level")}
            | {"matches": count}
            for index, count in sorted(by_rule.items(), key=lambda item: (-item[1], item[0]))
        ],
    }


def ordinary_command_lines(workspace: Workspace) -> list[str]:
    """Return the different command lines of the one shipped host that does ordinary work, sorted."""
    path = workspace.raw / _DEFENDER_HOST
    return sorted({event.command_line for event in read_events(path, "defender") if event.command_line})


def take_census(ruleset: RuleSet, workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Count what the shipped endpoint events match, by data set."""
    sources = {
        "endpoint-events": (workspace.raw / "endpoint-events" / "events.csv.gz", "sysmon-csv"),
        "defender-host": (workspace.raw / _DEFENDER_HOST, "defender"),
    }
    return {
        name: match_census(ruleset, read_batches(path, format_name), progress)
        for name, (path, format_name) in sources.items()
    }

r"""Which strings of the rules make the command-line prefilter.

Most strings of a rule mean little alone (``.exe``, ``\AppData\``): the rule wants them together with others. Taken are
the alternatives of a severe rule's tightest clause, where that clause is about the command line alone; left out is
what more than a small share of the command lines of an ordinary host contains, and what contains another taken string.
Text beyond ASCII is left to the rules, which match on any single emoji or look-alike letter of thousands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rule_predicates import read_predicate


def prefilter_strings(
    rules: Iterable[dict[str, Any]],
    background: Sequence[str],
    *,
    levels: Sequence[str],
    min_characters: int,
    max_background_fraction: float,
) -> dict[str, int]:
    """Return the prefilter's strings (lower case) and how many rules look for each.

    Parameters
    ----------
    rules : iterable of dict
        Compiled rules. Hunting rules give no strings.
    background : sequence of str
        Different command lines of ordinary work; may be empty.
    levels : sequence of str
        Levels of the rules that count as severe.
    min_characters : int
        Shortest string, blanks at its ends not counted.
    max_background_fraction : float
        Largest share of `background` that may contain a string, in [0, 1].
    """
    counts: Counter[str] = Counter()
    for rule in rules:
        if rule["level"] in levels and not rule["is_hunting"]:
            tightest = next(iter(read_predicate(rule["predicate"]).clauses()), frozenset())
            if {field for field, _ in tightest} == {"CommandLine"}:
                counts.update(text for _, text in tightest if text.isascii() and len(text.strip()) >= min_characters)
    candidates = CommandLinePrefilter(counts)
    ordinary: Counter[str] = Counter()
    for line in background:
        ordinary.update(candidates.signatures(line))
    most = max_background_fraction * len(background)
    telling = {text for text in counts if ordinary[text] <= most}
    return {text: counts[text] for text in sorted(telling) if not _contains_another(text, telling)}


def _contains_another(text: str, others: set[str]) -> bool:
    """Return whether a shorter string of `others` lies within `text`: it would fire with it every time."""
    lengths = range(1, len(text))
    return any(text[start : start + size] in others for size in lengths for start in range(len(text) - size + 1))

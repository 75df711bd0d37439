"""Clauses: what must at least be found in an event before a rule's tree is worth evaluating.

A clause is a set of (field, text) of which one must occur. A rule implies several; an event that misses one of them
cannot satisfy the rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum
from typing import Final

#: Alternatives: a text (lower case) in a field; one of them occurs in every event that satisfies the rule.
Clause = frozenset[tuple[str, str]]

#: A clause with a shorter ASCII text than this says too little to be worth looking for.
SHORTEST_TEXT: Final = 3
#: Clauses kept for each rule, the most telling ones.
MOST_CLAUSES: Final = 4
_TELLING_CHARACTERS: Final = 12


def looseness(clause: Clause) -> float:
    """Return a rough chance that an event satisfies a clause: longer texts and fewer alternatives are tighter.

    Examples
    --------
    >>> looseness(frozenset({("CommandLine", "mimikatz")})) < looseness(frozenset({("CommandLine", "-e")}))
    True
    """
    # An exact sum: its rounding must not depend on the order in which a set is walked.
    return fsum(0.6 ** min(len(text.encode("utf-8", "replace")), _TELLING_CHARACTERS) for _, text in clause)


def clause_of(field: str, texts: Sequence[str]) -> tuple[Clause, ...]:
    """Return the clause that one of `texts` occurs in `field`; none if that says too little.

    Examples
    --------
    >>> clause_of("Image", ["CMD.exe"]), clause_of("CommandLine", ["/c", "whoami"])
    ((frozenset({('Image', 'cmd.exe')}),), ())
    """
    lowered = [text.lower() for text in texts]
    if not all(text and (len(text) >= SHORTEST_TEXT or not text.isascii()) for text in lowered):
        return ()
    return (frozenset((field, text) for text in lowered),)


def tightest(clauses: Iterable[Clause]) -> tuple[Clause, ...]:
    """Return at most `MOST_CLAUSES` different clauses, the tightest first."""
    return tuple(sorted(set(clauses), key=lambda clause: (looseness(clause), sorted(clause)))[:MOST_CLAUSES])


def any_of(branches: Sequence[tuple[Clause, ...]]) -> tuple[Clause, ...]:
    """Return clauses implied by a disjunction: the union of one clause of each branch is one.

    Examples
    --------
    >>> a, b = frozenset({("Image", "a.exe")}), frozenset({("OriginalFileName", "a.exe")})
    >>> [sorted(clause) for clause in any_of([(a,), (b,)])]
    [[('Image', 'a.exe'), ('OriginalFileName', 'a.exe')]]
    >>> any_of([(a,), ()])
    ()
    """
    if not all(branches):
        return ()
    most = max(map(len, branches))
    return tightest(
        frozenset().union(*(branch[min(number, len(branch) - 1)] for branch in branches)) for number in range(most)
    )

"""Regular expressions in time proportional to the text, whatever the text: Thompson's simulation, steps remembered.

Python's own engine tries one way after the other, and a few dozen characters chosen by an adversary can keep it busy
for hours. Here all ways are followed at once. Sets of states and the steps between them are remembered, so that
ordinary text costs two dictionary look-ups a character.

References
----------
K. Thompson, Regular expression search algorithm, Communications of the ACM 11 (6), 1968; R. Cox, Regular expression
matching can be simple and fast, 2007.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from eguard.detection.regex_syntax import Anchor, Choice, Node, One, Repeat, Sequence
from eguard.errors import RuleError

#: States of a program; counted repetition is written out.
MOST_STATES: Final = 20_000
#: Remembered steps of one expression; beyond it everything is forgotten and learnt anew.
_REMEMBERED_STEPS: Final = 4096
_WORD: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class _Place(NamedTuple):
    """What anchors can ask of the gap between two characters."""

    is_start: bool
    is_end: bool
    is_last_line_end: bool
    is_line_start: bool
    is_line_end: bool
    is_boundary: bool

    def satisfies(self, kind: str) -> bool:
        """Return whether an anchor of this kind holds here."""
        return {
            "start": self.is_start,
            "end": self.is_end,
            "last line end": self.is_last_line_end,
            "line start": self.is_line_start,
            "line end": self.is_line_end,
            "boundary": self.is_boundary,
            "no boundary": not self.is_boundary,
        }[kind]


_NOWHERE: Final = _Place(
    is_start=False,
    is_end=False,
    is_last_line_end=False,
    is_line_start=False,
    is_line_end=False,
    is_boundary=False,
)


class LinearRegex:
    """Says whether an expression is found anywhere in a text.

    Parameters
    ----------
    tree : Node
        The expression (`eguard.detection.regex_syntax.parse_regex`).

    Raises
    ------
    RuleError
        Its counted repetitions multiply to too large a program.

    Notes
    -----
    Time is O(text x states) at worst, memory bounded; nothing depends on the order of alternatives.

    Examples
    --------
    >>> from eguard.detection.regex_syntax import parse_regex
    >>> LinearRegex(parse_regex(r"(a+)+$")).found_in("a" * 5000 + "!")
    False
    """

    def __init__(self, tree: Node) -> None:
        # A state is a test of one character, an anchor, or None (a mere junction), and where it leads.
        self._tests: list[One | Anchor | None] = []
        self._next: list[tuple[int, ...]] = []
        self._final = self._state(None)
        self._first = self._write(tree, self._final)
        self._has_anchors = any(isinstance(test, Anchor) for test in self._tests)
        self._closures: dict[tuple[frozenset[int], _Place], tuple[frozenset[int], bool]] = {}
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def found_in(self, text: str) -> bool:
        """Return whether some stretch of `text` matches."""
        states: frozenset[int] = frozenset((self._first,))
        place = _NOWHERE
        closures, steps = self._closures, self._steps
        for position in range(len(text) + 1):
            if self._has_anchors:
                place = _place(text, position)
            closed = closures.get((states, place))
            if closed is None:
                closed = self._close(states, place)
            waiting, is_match = closed
            if is_match:
                return True
            if position < len(text):
                following = steps.get((waiting, text[position]))
                states = self._step(waiting, text[position]) if following is None else following
        return False

    def _close(self, states: frozenset[int], place: _Place) -> tuple[frozenset[int], bool]:
        """Return the states that wait for a character, reachable here without one, and whether the end is reached."""
        reached: set[int] = set()
        pending = list(states)
        while pending:
            state = pending.pop()
            if state in reached:
                continue
            reached.add(state)
            test = self._tests[state]
            if test is None or (isinstance(test, Anchor) and place.satisfies(test.kind)):
                pending.extend(self._next[state])
        waiting = frozenset(state for state in reached if isinstance(self._tests[state], One))
        if len(self._closures) >= _REMEMBERED_STEPS:
            self._closures.clear()
        self._closures[states, place] = closed = (waiting, self._final in reached)
        return closed

    def _step(self, waiting: frozenset[int], character: str) -> frozenset[int]:
        """Return where a character leads; a match may also begin behind it."""
        following = {self._first}
        for state in waiting:
            test = self._tests[state]
            if isinstance(test, One) and test.accepts(character):
                following.update(self._next[state])
        if len(self._steps) >= _REMEMBERED_STEPS:
            self._steps.clear()
        self._steps[waiting, character] = states = frozenset(following)
        return states

    def _state(self, test: One | Anchor | None, *following: int) -> int:
        if len(self._tests) >= MOST_STATES:
            raise RuleError(f"the expression needs more than {MOST_STATES} states", reason="regex_unsupported")
        self._tests.append(test)
        self._next.append(following)
        return len(self._tests) - 1

    def _write(self, node: Node, following: int) -> int:
        """Add the states of a node that lead to `following`; return the one to enter by."""
        if isinstance(node, One | Anchor):
            return self._state(node, following)
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                following = self._write(part, following)
            return following
        if isinstance(node, Choice):
            return self._state(None, *(self._write(branch, following) for branch in node.branches))
        return self._write_repeat(node, following)

    def _write_repeat(self, node: Repeat, following: int) -> int:
        if node.most is None:
            loop = self._state(None)
            self._next[loop] = (self._write(node.part, loop), following)
            following = loop
        else:
            for _ in range(node.most - node.least):
                following = self._state(None, self._write(node.part, following), following)
        for _ in range(node.least):
            following = self._write(node.part, following)
        return following


def _place(text: str, position: int) -> _Place:
    """Describe the gap before `position`."""
    before = text[position - 1] if position else ""
    after = text[position : position + 1]
    is_last = position == len(text)
    return _Place(
        is_start=not before,
        is_end=is_last,
        is_last_line_end=is_last or (after == "\n" and position == len(text) - 1),
        is_line_start=before in {"", "\n"},
        is_line_end=after in {"", "\n"},
        is_boundary=(before in _WORD) != (after in _WORD),
    )

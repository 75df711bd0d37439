r"""Wildcard patterns of rules: ``*`` any run of characters, ``?`` any one, a backslash takes the next one literally.

Matching walks through the pattern's pieces from left to right and takes each at its first place, which is right for
such patterns and never backtracks: the time is at most the product of the two lengths, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

#: One position of a pattern: a literal character, or None where any one character may stand.
_Position = str | None


def wildcard_escape(text: str) -> str:
    r"""Return a pattern that matches `text` and nothing else.

    Examples
    --------
    >>> wildcard_escape("C:\\a*b?")
    'C:\\\\a\\*b\\?'
    """
    return re.sub(r"([*?\\])", r"\\\1", text)


class WildcardPattern:
    r"""One pattern, matched against a whole text.

    Examples
    --------
    >>> pattern = WildcardPattern("*\\\\temp\\\\*.ex?")
    >>> pattern.matches("c:\\temp\\a\\b.exe"), pattern.matches("c:\\temp\\b.ps1")
    (True, False)
    >>> pattern.longest_literal
    '\\temp\\'
    """

    __slots__ = ("_is_open_end", "_is_open_start", "_pieces", "longest_literal")

    def __init__(self, pattern: str) -> None:
        runs = list(_split_runs(pattern))
        self._is_open_start = len(runs) > 1 and not runs[0]
        self._is_open_end = len(runs) > 1 and not runs[-1]
        # A pattern without any character and without ``*`` is the empty text.
        self._pieces = [_Piece(run) for run in runs if run or len(runs) == 1]
        self.longest_literal = max((text for run in runs for text in _literals(run)), key=len, default="")

    def matches(self, text: str) -> bool:
        """Return whether the pattern covers all of `text`."""
        position, last = 0, len(self._pieces) - 1
        for number, piece in enumerate(self._pieces):
            is_fixed_start = number == 0 and not self._is_open_start
            if number == last and not self._is_open_end:
                start = len(text) - piece.length
                return start >= position and not (is_fixed_start and start) and piece.stands_at(text, start)
            found = piece.find(text, position) if not is_fixed_start else 0 if piece.stands_at(text, 0) else -1
            if found < 0:
                return False
            position = found + piece.length
        return True


class _Piece:
    """A stretch of a pattern between two ``*``: of fixed length, perhaps with one-character wildcards in it."""

    __slots__ = ("_expression", "_text", "length")

    def __init__(self, run: list[_Position]) -> None:
        self.length = len(run)
        self._text = "".join(character or "" for character in run)
        self._expression: re.Pattern[str] | None = None
        if len(self._text) < len(run):
            expression = "".join("." if character is None else re.escape(character) for character in run)
            self._expression = re.compile(expression, re.DOTALL)

    def stands_at(self, text: str, start: int) -> bool:
        """Return whether the piece stands in `text` at `start`."""
        if self._expression is None:
            return text.startswith(self._text, start)
        return self._expression.match(text, start) is not None

    def find(self, text: str, start: int) -> int:
        """Return the piece's first place in `text` from `start` on; -1 if there is none."""
        if self._expression is None:
            return text.find(self._text, start)
        found = self._expression.search(text, start)
        return -1 if found is None else found.start()


def _split_runs(pattern: str) -> Iterator[list[_Position]]:
    """Cut a pattern at each ``*``."""
    run: list[_Position] = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            run.append(next(characters, "\\"))
        elif character == "*":
            yield run
            run = []
        else:
            run.append(None if character == "?" else character)
    yield run


def _literals(run: list[_Position]) -> Iterator[str]:
    """Iterate over the literal stretches of a run."""
    for is_literal, characters in groupby(run, key=lambda character: character is not None):
        if is_literal:
            yield "".join(character or "" for character in characters)

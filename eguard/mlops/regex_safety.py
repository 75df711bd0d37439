"""Which regular expressions an endpoint may run: Python's engine backtracks, and a text can be made to exploit that.

Refused are expressions that can take exponential time: an unbounded repetition of something that itself contains one
(``(a+)+``), or of alternatives (``(a|ab)*``). What remains is polynomial, and bounded because an endpoint looks at no
more than `REGEX_SUBJECT_CHARACTERS` characters.

References
----------
J. Kirrage, A. Rathnayake, H. Thielecke, Static analysis for regular expression denial-of-service attacks, 2013.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Final

from eguard.errors import RuleError

#: A repetition count up to which repeating a variable group cannot explode.
_HARMLESS_REPEATS: Final = 4
_QUANTIFIER: Final = re.compile(r"(\*|\+|\?|\{(\d*)(,?)(\d*)\})[?+]?")
_CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)


@dataclass(slots=True)
class _Group:
    """What a group holds, as far as it matters to its own repetition."""

    has_repetition: bool = False
    has_alternatives: bool = False


def check_regex(pattern: str) -> None:
    r"""Refuse an expression that cannot be compiled or that can take exponential time.

    Raises
    ------
    RuleError
        With ``reason`` ``regex_invalid`` or ``regex_unsafe``.

    Examples
    --------
    >>> check_regex(r"net\s+user")
    >>> check_regex(r"(a+)+$")
    Traceback (most recent call last):
    eguard.errors.RuleError: regular expression '(a+)+$' repeats a repetition
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern, re.ASCII)
    except (re.error, Warning, OverflowError, RecursionError) as error:
        raise RuleError(f"regular expression {pattern!r} is refused: {error}", reason="regex_invalid") from error
    groups = [_Group()]
    position = 0
    while position < len(pattern):
        closed: _Group | None = None
        character = pattern[position]
        if character == "\\":
            position += 2
        elif character == "[":
            found = _CLASS.match(pattern, position)
            position = found.end() if found else position + 1
        elif character == "(":
            groups.append(_Group())
            # ``(?:`` and ``(?i)`` are no quantifiers.
            position += 2 if pattern[position + 1 : position + 2] == "?" else 1
            continue
        else:
            closed = groups.pop() if character == ")" and len(groups) > 1 else None
            groups[-1].has_alternatives |= character == "|"
            position += 1
        position = _after_quantifier(pattern, position, groups[-1], closed)


def _after_quantifier(pattern: str, position: int, group: _Group, closed: _Group | None) -> int:
    """Judge the quantifier at `position`, if there is one, and return the position behind it."""
    quantifier = _QUANTIFIER.match(pattern, position)
    repeats = _most_repeats(quantifier) if quantifier else 1
    if closed is not None:
        if repeats > _HARMLESS_REPEATS and closed.has_repetition:
            raise RuleError(f"regular expression {pattern!r} repeats a repetition", reason="regex_unsafe")
        if repeats == _UNBOUNDED and closed.has_alternatives:
            raise RuleError(f"regular expression {pattern!r} repeats alternatives", reason="regex_unsafe")
        group.has_repetition |= closed.has_repetition
    group.has_repetition |= repeats == _UNBOUNDED
    return quantifier.end() if quantifier else position


_UNBOUNDED: Final = 1 << 30


def _most_repeats(quantifier: re.Match[str]) -> int:
    """Return how often a quantifier repeats at most."""
    symbol, least, comma, most = quantifier.groups()
    if symbol in "*+":
        return _UNBOUNDED
    if symbol == "?":
        return 1
    if comma and not most:
        return _UNBOUNDED
    return int(most or least or 1)

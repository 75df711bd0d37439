r"""Regular expressions of rules as trees: the syntax that linear-time engines share (RE2's), in ASCII semantics.

Characters, classes, groups, alternatives, counted repetition, the anchors ``^ $ \A \Z \b \B`` and the flags ``i m s``.
Back references and look-around are not part of it, so that every expression can be matched in one pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from eguard.errors import RuleError

#: A larger count makes no sense in a rule and would make a large program.
MOST_REPEATS: Final = 1000
_WORD: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_CLASSES: Final = {"d": frozenset("0123456789"), "w": _WORD, "s": frozenset(" \t\n\r\f\v")}
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_ANCHORS: Final = {"A": "start", "Z": "end", "z": "end", "b": "boundary", "B": "no boundary"}
_REPEAT: Final = re.compile(r"\*|\+|\?|\{(\d+)(,?)(\d*)\}")
_GROUP: Final = re.compile(r"\((?:\?(?::|P?<\w+>|(?P<flags>[ims]+)(?P<end>[:)])))?")


@dataclass(frozen=True, slots=True)
class One:
    """One character out of `members` (or of `spans`), or out of all others if negated."""

    members: frozenset[str]
    spans: tuple[tuple[str, str], ...] = ()
    #: Classes such as ``\D`` inside a class: any character outside these.
    outside: tuple[frozenset[str], ...] = ()
    is_negated: bool = False
    ignores_case: bool = False

    def accepts(self, character: str) -> bool:
        """Return whether the character is one of these."""
        found = self._has(character)
        if not found and self.ignores_case and character.isascii():
            found = self._has(character.swapcase())
        return found is not self.is_negated

    def _has(self, character: str) -> bool:
        return (
            character in self.members
            or any(first <= character <= last for first, last in self.spans)
            or any(character not in members for members in self.outside)
        )

    @property
    def literal(self) -> str:
        """The character, if it can be only one; else empty."""
        is_single = len(self.members) == 1 and not (self.spans or self.outside or self.is_negated)
        return next(iter(self.members)) if is_single else ""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place: ``start``, ``end``, ``line start``, ``line end``, ``boundary`` or ``no boundary``."""

    kind: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """Parts one after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several branches."""

    branches: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part from `least` to `most` times; None is without end."""

    part: Node
    least: int
    most: int | None


Node = One | Anchor | Sequence | Choice | Repeat


def parse_regex(pattern: str, flags: str = "") -> Node:
    """Return the tree of an expression.

    Raises
    ------
    RuleError
        It is malformed or uses what no linear-time engine has.

    Examples
    --------
    >>> parse_regex("ab+").parts[1].most is None
    True
    >>> parse_regex(r"(?=a)")
    Traceback (most recent call last):
    eguard.errors.RuleError: regular expression '(?=a)': look-around has no counterpart (position 0)
    """
    parser = _Parser(pattern, set(flags))
    if not parser.flags <= {"i", "m", "s"}:
        raise parser.error(f"flags {flags!r} are not known")
    tree = parser.choice()
    if parser.position < len(pattern):
        raise parser.error("a parenthesis closes nothing")
    return tree


@dataclass(slots=True)
class _Parser:
    """Recursive descent over one expression."""

    pattern: str
    flags: set[str]
    position: int = 0
    _depth: int = field(default=0)

    def error(self, cause: str) -> RuleError:
        """Return the error for the present position."""
        return RuleError(
            f"regular expression {self.pattern!r}: {cause} (position {self.position})", reason="regex_unsupported"
        )

    def choice(self) -> Node:
        """Read branches up to a closing parenthesis or the end."""
        branches = [self._sequence()]
        while self._peek() == "|":
            self.position += 1
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else Choice(tuple(branches))

    def _peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in {"", "|", ")"}:
            part = self._part()
            if part is not None:
                parts.append(self._repeated(part))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, part: Node) -> Node:
        found = _REPEAT.match(self.pattern, self.position)
        if found is None:
            return part
        self.position = found.end()
        if self._peek() == "?":
            self.position += 1  # greedy or lazy: whether there is a match is the same
        elif self._peek() == "+":
            raise self.error("possessive repetition has no counterpart")
        symbol, (least, comma, most) = found.group(), found.groups()
        bounds = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(symbol)
        if bounds is None:
            bounds = int(least), int(most) if most else None if comma else int(least)
        if max(filter(None, bounds), default=0) > MOST_REPEATS or (bounds[1] is not None and bounds[1] < bounds[0]):
            raise self.error(f"repetition {symbol} is out of range")
        return Repeat(part, *bounds)

    def _part(self) -> Node | None:
        character = self._peek()
        if character == "(":
            return self._group()
        if character == "[":
            return self._set()
        self.position += 1
        if character == "\\":
            return self._escape()
        if character == ".":
            return One(frozenset() if "s" in self.flags else frozenset("\n"), is_negated=True)
        if character in "^$":
            place = "start" if character == "^" else "end"
            return Anchor(f"line {place}" if "m" in self.flags else place if character == "^" else "last line end")
        if character in "*+?":
            self.position -= 1
            raise self.error("there is nothing to repeat")
        return self._one(character)

    def _one(self, character: str) -> One:
        return One(frozenset(character), ignores_case="i" in self.flags)

    def _group(self) -> Node | None:
        found = _GROUP.match(self.pattern, self.position)
        if found is None or self.pattern.startswith("?", found.end()):
            raise self.error("look-around has no counterpart")
        self.position = found.end()
        outer = set(self.flags)
        self.flags |= set(found["flags"] or "")
        if found["end"] == ")":
            return None  # flags for the rest of the enclosing group
        inner = self.choice()
        if self._peek() != ")":
            raise self.error("a parenthesis is not closed")
        self.position += 1
        self.flags = outer
        return inner

    def _escape(self) -> Node:
        character = self._peek()
        self.position += 1
        if character in _ANCHORS:
            return Anchor(_ANCHORS[character])
        if character.isdigit():
            raise self.error("back references cannot be matched in one pass")
        if character.lower() in _CLASSES:
            return One(_CLASSES[character.lower()], is_negated=character.isupper())
        return self._one(self._character(character))

    def _character(self, escaped: str) -> str:
        """Return the character that an escape stands for; the position is behind its first letter."""
        if escaped in _CONTROLS:
            return _CONTROLS[escaped]
        if escaped in {"x", "u"}:
            digits = self.pattern[self.position : self.position + (2 if escaped == "x" else 4)]
            if not re.fullmatch(r"[0-9A-Fa-f]{2}|[0-9A-Fa-f]{4}", digits):
                raise self.error("a character code is malformed")
            self.position += len(digits)
            return chr(int(digits, 16))
        if not escaped or (escaped.isascii() and escaped.isalpha()):
            raise self.error(f"escape \\{escaped} has no counterpart")
        return escaped

    def _set(self) -> One:
        self.position += 1
        is_negated = self._peek() == "^"
        self.position += is_negated
        members: set[str] = set()
        spans: list[tuple[str, str]] = []
        outside: list[frozenset[str]] = []
        is_first = True
        while self._peek() != "]" or is_first:
            is_first = False
            first = self._member(members, outside)
            if first and self._peek() == "-" and self.pattern[self.position + 1 : self.position + 2] not in {"", "]"}:
                self.position += 1
                last = self._member(set(), [])
                if not last or last < first:
                    raise self.error("a range in a class is malformed")
                spans.append((first, last))
            elif first:
                members.add(first)
        self.position += 1
        return One(frozenset(members), tuple(spans), tuple(outside), is_negated, ignores_case="i" in self.flags)

    def _member(self, members: set[str], outside: list[frozenset[str]]) -> str:
        """Read one member of a class; a class within it is added to `members` or `outside` and "" returned."""
        character = self._peek()
        self.position += 1
        if not character:
            raise self.error("a class is not closed")
        if character != "\\":
            return character
        escaped = self._peek()
        self.position += 1
        if escaped.lower() in _CLASSES:
            known = _CLASSES[escaped.lower()]
            if escaped.isupper():
                outside.append(known)
            else:
                members.update(known)
            return ""
        return "\b" if escaped == "b" else self._character(escaped)

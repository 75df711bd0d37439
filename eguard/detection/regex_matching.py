"""How a rule's regular expression is run, and what every match of it contains.

Python's engine is the faster one, but it backtracks. It is used for expressions that cannot keep it busy for long;
all others run on `eguard.detection.linear_regex`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Final

from eguard.detection.linear_regex import LinearRegex
from eguard.detection.regex_syntax import Anchor, Choice, Node, One, Repeat, Sequence, parse_regex

#: Characters of a value that an expression is run on.
REGEX_SUBJECT_CHARACTERS: Final = 8192
#: Ways of matching at one place that a backtracking engine may be left to try.
_MOST_WAYS: Final = 4096
#: The same when one repetition without end multiplies them by the length of the text.
_MOST_WAYS_UNBOUNDED: Final = 16

_FLAGS: Final = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}


def compile_search(pattern: str, flags: str = "") -> Callable[[str], bool]:
    r"""Return a function that says whether an expression is found in a text's first characters.

    Raises
    ------
    RuleError
        The expression is malformed or outside the supported syntax.

    Examples
    --------
    >>> found = compile_search(r"net\s+user")
    >>> found("net  user /add"), found("netuser")
    (True, False)
    """
    tree = parse_regex(pattern, flags)
    compiled = _compile_backtracking(pattern, flags) if is_cheap(tree) else None
    if compiled is not None:
        search = compiled.search
        return lambda text: search(text[:REGEX_SUBJECT_CHARACTERS]) is not None
    found_in = LinearRegex(tree).found_in
    return lambda text: found_in(text[:REGEX_SUBJECT_CHARACTERS])


def _compile_backtracking(pattern: str, flags: str) -> re.Pattern[str] | None:
    """Compile for Python's engine; None where it reads the syntax otherwise (flags in the middle, ``[[``)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return re.compile(pattern, re.ASCII | sum(_FLAGS[flag] for flag in flags))
        except (re.error, Warning):
            return None


def is_cheap(tree: Node) -> bool:
    r"""Return whether a backtracking engine can be trusted with an expression on any text.

    It can with at most one repetition without end, few variable ones beside it, and nothing variable repeated.

    Examples
    --------
    >>> [is_cheap(parse_regex(pattern)) for pattern in (r"ab+c", r"a.*b.*c", r"(a|b)*", r"x{2,5}y?")]
    [True, False, False, True]
    """
    repeats = [node for node in _nodes(tree) if isinstance(node, Repeat) and node.least != node.most]
    if any(_is_variable(node.part) for node in _nodes(tree) if isinstance(node, Repeat)):
        return False
    endless = sum(node.most is None for node in repeats)
    ways = 1
    for node in repeats:
        ways *= 1 if node.most is None else node.most - node.least + 1
    return endless <= 1 and ways <= (_MOST_WAYS_UNBOUNDED if endless else _MOST_WAYS)


def required_literal(tree: Node) -> str:
    r"""Return the longest literal (lower case) that each match contains; empty if there is none.

    Examples
    --------
    >>> required_literal(parse_regex(r"ipconfig\s+/all")), required_literal(parse_regex("cat|dog"))
    ('ipconfig', '')
    >>> required_literal(parse_regex(r"(?i)HTTPS?://[0-9]+"))
    'http'
    """
    runs = [""]
    for literal in _literals(tree):
        if literal:
            runs[-1] += literal
        else:
            runs.append("")
    return max(runs, key=len).lower()


def _literals(node: Node) -> Iterator[str]:
    """Iterate over the characters that every match contains in this order; an empty one breaks a run."""
    if isinstance(node, One):
        yield node.literal
    elif isinstance(node, Sequence):
        for part in node.parts:
            yield from _literals(part)
    elif isinstance(node, Repeat) and node.least:
        yield from _literals(node.part)
        yield ""
    elif not isinstance(node, Anchor):
        yield ""


def _is_variable(node: Node) -> bool:
    """Return whether a node can match in more than one way at one place."""
    return any(
        isinstance(inner, Choice) or (isinstance(inner, Repeat) and inner.least != inner.most) for inner in _nodes(node)
    )


def _nodes(node: Node) -> Iterator[Node]:
    """Iterate over a tree."""
    yield node
    children: tuple[Node, ...] = ()
    if isinstance(node, Sequence):
        children = node.parts
    elif isinstance(node, Choice):
        children = node.branches
    elif isinstance(node, Repeat):
        children = (node.part,)
    for child in children:
        yield from _nodes(child)

"""The literal that every match of a regular expression contains, so that an index can tell when not to run it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(
    r"""
    (?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])       # [...]
  | \\(?P<escaped>[^A-Za-z0-9])                 # an escaped sign is itself
  | (?P<escape>\\.)                             # \s, \d, \b, ... and back references
  | (?P<quantifier>[*+?]|\{\d*,?\d*\})
  | (?P<open>\((?:\?[a-z]+\)|\?:)?)             # a group, or inline flags as a whole
  | (?P<close>\))
  | (?P<bar>\|)
  | (?P<sign>[.^$])
  | (?P<plain>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def required_literal(pattern: str) -> str:
    r"""Return the longest literal (lower case) outside groups that each match contains; empty if there is none.

    Examples
    --------
    >>> required_literal(r"ipconfig\s+/all")
    'ipconfig'
    >>> required_literal(r"(?i)https?://[0-9]+"), required_literal("cat|dog")
    ('http', '')
    """
    return max(_runs(pattern), key=len, default="").lower()


def _runs(pattern: str) -> Iterator[str]:
    """Iterate over stretches of literal characters at the outermost level."""
    runs = [""]
    depth = 0
    for token in _TOKEN.finditer(pattern):
        kind, text = token.lastgroup, token.group()
        if kind == "bar" and depth == 0:
            return iter(())
        if kind == "open":
            depth += 0 if text.endswith(")") else 1
        elif kind == "close":
            depth -= 1
        elif depth == 0 and kind in {"plain", "escaped"}:
            runs[-1] += token["escaped"] or text
            continue
        elif depth == 0 and kind == "quantifier" and runs[-1] and text != "+":
            # The last character may be absent, or repeated in a way not worth following.
            runs[-1] = runs[-1][:-1]
        runs.append("")
    return iter(runs)

"""Cheap prefilter of command lines: strings that rules of high severity look for, without the rest of those rules.

A rule fires on a combination; one of its strings alone is a weak sign, but it costs next to nothing to see and does not
depend on the fields that the rule also wants. The strings come from the compiled rules and travel in ``rules.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.literal_index import LiteralIndex, bits_of
from eguard.detection.recent_cache import RecentCache
from eguard.detection.sigma_view import TEXT_LIMIT_CHARACTERS
from eguard.errors import RuleError

_REMEMBERED_LINES: Final = 32_768
_REMEMBERED_CHARACTERS: Final = 1 << 24


class CommandLinePrefilter:
    """Count distinct suspicious strings in command lines.

    Parameters
    ----------
    rules_by_text : mapping of str to int
        Suspicious strings and the number of rules that look for each.

    Examples
    --------
    >>> prefilter = CommandLinePrefilter({"mimikatz": 3, "sekurlsa::": 2, "whoami": 9})
    >>> prefilter.signatures("Mimikatz.exe SEKURLSA::logonpasswords")
    ('mimikatz', 'sekurlsa::')
    >>> prefilter.counts(["dir", "whoami /all"]).tolist()
    [0, 1]
    """

    def __init__(self, rules_by_text: Mapping[str, int]) -> None:
        self.rules_by_text = {text.lower(): count for text, count in sorted(rules_by_text.items())}
        self._texts = tuple(sorted(self.rules_by_text))
        self._index = LiteralIndex({number: (text,) for number, text in enumerate(self._texts)})
        self._counts: RecentCache[str, int] = RecentCache(_REMEMBERED_LINES, _REMEMBERED_CHARACTERS, len)

    @classmethod
    def from_json(cls, obj: Any) -> CommandLinePrefilter:
        """Read the strings out of what the rules stage wrote.

        Raises
        ------
        RuleError
            They are missing or malformed.
        """
        items = obj.get("prefilter") if isinstance(obj, dict) else None
        if not isinstance(items, dict) or not all(text and type(count) is int for text, count in items.items()):
            raise RuleError("the rule file has no command-line strings", reason="malformed")
        return cls(items)

    def __len__(self) -> int:
        return len(self._texts)

    def signatures(self, command_line: str) -> tuple[str, ...]:
        """Return the suspicious strings in a command line, sorted."""
        text = command_line[:TEXT_LIMIT_CHARACTERS].lower()
        return tuple(self._texts[number] for number in bits_of(self._index.members_in(text)))

    def counts(self, command_lines: Sequence[str]) -> NDArray[np.int64]:
        """Return the number of distinct suspicious strings in each command line; an empty line has none.

        Returns
        -------
        ndarray of int of shape (n,)
        """
        count_of = {line: self._count(line) for line in dict.fromkeys(command_lines)}
        return np.fromiter(map(count_of.__getitem__, command_lines), dtype=np.int64, count=len(command_lines))

    def _count(self, command_line: str) -> int:
        if not command_line:
            return 0
        count = self._counts.get(command_line)
        if count is None:
            count = len(self.signatures(command_line))
            self._counts.put(command_line, count)
        return count

"""Which of thousands of literals occur in a text: an index over runs of three characters (trigrams).

Each literal is filed under its rarest trigram. A text is cut into its own trigrams, the two sets are intersected, and
only the literals filed under a shared one are looked for: one pass over the text and a few substring searches, no
backtracking, no automaton to build. A literal shorter than a trigram is a run of its own length.

References
----------
G. Navarro, M. Raffinot, Flexible Pattern Matching in Strings, 2002, section 6.5 (q-gram filters).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final

#: Length of the runs.
GRAM_CHARACTERS: Final = 3


class LiteralIndex:
    """Bit masks of the members that have a literal in a text.

    Parameters
    ----------
    literals_by_member : mapping of int to iterable of str
        Literals, not empty, of each member (a bit position). Case is the caller's: index and text must agree.

    Examples
    --------
    >>> index = LiteralIndex({0: ["mimikatz"], 1: ["whoami", "net user"], 2: ["/c"]})
    >>> bin(index.members_in("cmd /c whoami")), bin(index.members_in("dir"))
    ('0b110', '0b0')
    """

    __slots__ = ("_ascii_sizes", "_by_gram", "_grams", "_sizes")

    def __init__(self, literals_by_member: Mapping[int, Iterable[str]]) -> None:
        masks: dict[str, int] = {}
        for member, literals in literals_by_member.items():
            for literal in literals:
                masks[literal] = masks.get(literal, 0) | 1 << member
        grams = {literal: _grams(literal) for literal in masks}
        frequency = Counter(chain.from_iterable(grams.values()))
        by_gram: dict[str, list[tuple[str, int]]] = {}
        for literal, mask in sorted(masks.items()):
            rarest = min(grams[literal], key=frequency.__getitem__)
            by_gram.setdefault(rarest, []).append((literal, mask))
        self._by_gram = {gram: tuple(filed) for gram, filed in by_gram.items()}
        self._grams = frozenset(by_gram)
        self._sizes = tuple(sorted({len(gram) for gram in by_gram}))
        self._ascii_sizes = tuple(sorted({len(gram) for gram in by_gram if gram.isascii()}))

    def members_in(self, text: str) -> int:
        """Return the mask of members that have a literal in `text`."""
        found = 0
        by_gram, grams = self._by_gram, self._grams
        # Rules look for thousands of emoji and look-alike letters, none of which an ASCII text can hold.
        for size in self._ascii_sizes if text.isascii() else self._sizes:
            runs = [text[start : start + size] for start in range(len(text) - size + 1)]
            for gram in grams.intersection(runs):
                for literal, mask in by_gram[gram]:
                    if literal in text:
                        found |= mask
        return found


def bits_of(mask: int) -> list[int]:
    """Return the positions of the ones in a mask, ascending."""
    positions = []
    while mask:
        lowest = mask & -mask
        positions.append(lowest.bit_length() - 1)
        mask ^= lowest
    return positions


def _grams(literal: str) -> list[str]:
    """Return the trigrams of a literal in order; a shorter one is its own."""
    size = min(len(literal), GRAM_CHARACTERS)
    return [literal[start : start + size] for start in range(len(literal) - size + 1)]

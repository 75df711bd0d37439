"""The rules of one log source, arranged so that an event meets only those that it can satisfy.

Each rule implies clauses (`eguard.detection.clauses`). An index per field turns a value into a bit mask of the clauses
that it satisfies; the masks of all fields are joined, and only rules none of whose clauses is missing are evaluated in
full. Of some 1,400 rules for process starts, an ordinary event leaves about fifteen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from eguard.detection.clauses import MOST_CLAUSES
from eguard.detection.literal_index import LiteralIndex, bits_of
from eguard.detection.recent_cache import RecentCache
from eguard.detection.rule_predicates import Predicate
from eguard.detection.sigma_view import SigmaView

#: Values of one field whose masks are remembered; paths of programs recur, command lines hardly do.
_REMEMBERED_VALUES: Final = 2048
_REMEMBERED_CHARACTERS: Final = 1 << 20


class _FieldIndex(NamedTuple):
    """Which clauses a value of one field may satisfy."""

    field: str
    literals: LiteralIndex
    remembered: RecentCache[str, int]


class RuleRoute:
    """Rules for events of one log source.

    Parameters
    ----------
    indices : sequence of int
        The rules' positions in their set, ascending.
    predicates : sequence of Predicate
        Their trees.

    Attributes
    ----------
    fields : tuple of str
        Every field that some rule reads, sorted; the empty name means that keywords are searched in all of them.
    """

    __slots__ = ("_field_indexes", "_indices", "_predicates", "_without_clause", "fields")

    def __init__(self, indices: Sequence[int], predicates: Sequence[Predicate]) -> None:
        self._indices = tuple(indices)
        self._predicates = tuple(predicates)
        self.fields = tuple(sorted({field for predicate in predicates for field in predicate.fields()}))
        # Bit `slot * len(indices) + rule` stands for one clause of one rule; a rule with fewer clauses than slots
        # satisfies the others beforehand.
        size = len(self._indices)
        texts_by_field: dict[str, dict[int, set[str]]] = {}
        self._without_clause = 0
        for number, predicate in enumerate(predicates):
            clauses = predicate.clauses()
            for slot in range(MOST_CLAUSES):
                bit = slot * size + number
                if slot >= len(clauses):
                    self._without_clause |= 1 << bit
                    continue
                for field, text in clauses[slot]:
                    texts_by_field.setdefault(field, {}).setdefault(bit, set()).add(text)
        self._field_indexes = [
            _FieldIndex(field, LiteralIndex(texts), RecentCache(_REMEMBERED_VALUES, _REMEMBERED_CHARACTERS, len))
            for field, texts in sorted(texts_by_field.items())
        ]

    def candidates(self, view: SigmaView) -> list[int]:
        """Return the positions, within this route, of the rules that the event may satisfy."""
        mask = self._without_clause
        lowered = view.lowered
        for field, literals, remembered in self._field_indexes:
            value = lowered.get(field)
            if value is not None:
                possible = remembered.get(value)
                if possible is None:
                    possible = literals.members_in(value)
                    remembered.put(value, possible)
                mask |= possible
        size = len(self._indices)
        rules = (1 << size) - 1
        for slot in range(MOST_CLAUSES):
            rules &= mask >> (slot * size)
        return bits_of(rules)

    def match(self, view: SigmaView) -> tuple[int, ...]:
        """Return the rules that the event satisfies, ascending."""
        predicates = self._predicates
        return tuple(
            [self._indices[position] for position in self.candidates(view) if predicates[position].holds(view)]
        )

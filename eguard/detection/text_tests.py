"""Tests of a field's text: ``equals``, ``contains``, ``startswith`` and ``endswith`` any of some texts.

Each is asked what it can say when only a part of the value is known (`eguard.detection.sigma_view`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

from eguard.detection.clauses import Clause, clause_of
from eguard.detection.literal_index import LiteralIndex
from eguard.detection.sigma_view import Knowledge, SigmaView

#: From this many texts on, an index is faster than trying each.
_INDEXED_TEXTS: Final = 96


class TextTest:
    """Any of some texts, in the way that a subclass says; in lower case unless cased."""

    __slots__ = ("field", "is_cased", "texts")

    kind: ClassVar[str]
    #: What must be known of a value for a text to be seen in it.
    sufficient: ClassVar[frozenset[Knowledge]]
    #: What must be known of a value for texts to be ruled out by comparing ends.
    comparable: ClassVar[frozenset[Knowledge]] = frozenset()

    def __init__(self, field: str, texts: Sequence[str], *, is_cased: bool) -> None:
        self.field = field
        self.is_cased = is_cased
        self.texts = tuple(texts) if is_cased else tuple(text.lower() for text in texts)

    def found_in(self, value: str) -> bool:
        """Return whether one of the texts is found in `value`, of which enough is known."""
        raise NotImplementedError

    def holds(self, view: SigmaView) -> bool:
        """Return whether what is known of the value satisfies the test."""
        value = (view.values if self.is_cased else view.lowered).get(self.field)
        if value is None:
            return False
        if view.partial and view.knowledge(self.field) not in self.sufficient:
            return False
        return self.found_in(value)

    def fails(self, view: SigmaView) -> bool:
        """Return whether no completion of what is known could satisfy the test."""
        value = (view.values if self.is_cased else view.lowered).get(self.field)
        if value is None:
            return view.is_complete
        knowledge = view.knowledge(self.field)
        if knowledge is Knowledge.WHOLE:
            return not self.found_in(value)
        if knowledge not in self.comparable or (knowledge in self.sufficient and self.found_in(value)):
            return False
        # What is known is longer or shorter than a text; the text still fits if one is an end of the other.
        ends = str.endswith if knowledge is Knowledge.END else str.startswith
        return not any(ends(text, value) for text in self.texts)

    def clauses(self) -> tuple[Clause, ...]:
        """Return the texts themselves, if all are long enough to say something."""
        return clause_of(self.field, self.texts)

    def fields(self) -> Iterator[str]:
        """Iterate over the field read."""
        yield self.field

    def evidence(self, view: SigmaView) -> Iterator[tuple[str, str, str]]:
        """Name only the texts that fit, not all that were looked for."""
        for text in self.texts:
            if type(self)(self.field, (text,), is_cased=self.is_cased).holds(view):
                yield self.field, view.values[self.field], f"{self.kind} {text!r}"


class EqualsTest(TextTest):
    """The value is one of the texts."""

    __slots__ = ("_set",)
    kind = "equals"
    sufficient = frozenset({Knowledge.WHOLE})
    comparable = frozenset({Knowledge.END, Knowledge.START})

    def __init__(self, field: str, texts: Sequence[str], *, is_cased: bool) -> None:
        super().__init__(field, texts, is_cased=is_cased)
        self._set = frozenset(self.texts)

    def found_in(self, value: str) -> bool:
        """Return whether the value is one of the texts."""
        return value in self._set


class ContainsTest(TextTest):
    """One of the texts stands somewhere in the value."""

    __slots__ = ("_index", "_is_beyond_ascii")
    kind = "contains"
    sufficient = frozenset(Knowledge)

    def __init__(self, field: str, texts: Sequence[str], *, is_cased: bool) -> None:
        super().__init__(field, texts, is_cased=is_cased)
        # Rules that look for hundreds of emoji or look-alike letters are settled at once for ordinary text.
        self._is_beyond_ascii = not any(text.isascii() for text in self.texts)
        is_indexed = len(self.texts) >= _INDEXED_TEXTS
        self._index = LiteralIndex({number: (text,) for number, text in enumerate(self.texts)}) if is_indexed else None

    def found_in(self, value: str) -> bool:
        """Return whether one of the texts stands in the value."""
        if self._is_beyond_ascii and value.isascii():
            return False
        if self._index is not None:
            return self._index.members_in(value) != 0
        for text in self.texts:  # noqa: SIM110  (a loop: a generator costs twice as much here)
            if text in value:
                return True
        return False


class StartsWithTest(TextTest):
    """The value begins with one of the texts."""

    __slots__ = ()
    kind = "startswith"
    sufficient = frozenset({Knowledge.WHOLE, Knowledge.START})
    comparable = frozenset({Knowledge.START})

    def found_in(self, value: str) -> bool:
        """Return whether the value begins with one of the texts."""
        return value.startswith(self.texts)


class EndsWithTest(TextTest):
    """The value ends with one of the texts."""

    __slots__ = ()
    kind = "endswith"
    sufficient = frozenset({Knowledge.WHOLE, Knowledge.END})
    comparable = frozenset({Knowledge.END})

    def found_in(self, value: str) -> bool:
        """Return whether the value ends with one of the texts."""
        return value.endswith(self.texts)


TEXT_TESTS: Final[dict[str, type[TextTest]]] = {
    test.kind: test for test in (EqualsTest, ContainsTest, StartsWithTest, EndsWithTest)
}

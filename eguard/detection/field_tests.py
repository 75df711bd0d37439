"""Tests of one field: the leaves of a rule's predicate tree.

=============================================================  =======================================================
``["equals" | "contains" | "startswith" | "endswith", F, T]``  any of the texts T, ignoring case; with ``_cased`` added
                                                               to the name, heeding it
``["like" | "like_cased", F, T]``                              any of the patterns T: ``*`` is any run, ``?`` any one
                                                               character, a backslash takes the next one literally
``["regex", F, pattern, flags]``                               found anywhere; flags out of ``ims``
``["cidr", F, [network, ...]]``                                the address lies in one of the networks
``["less" | "less_equal" | "greater" | "greater_equal", F,     the field as a number
number]``
``["null", F]``, ``["exists", F]``                             the field is absent; it is there
``["equals_field", F, G]``                                     two fields are equal, ignoring case
``["keyword", "", T]``                                         any of the patterns T anywhere in the event
=============================================================  =======================================================
"""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Final

from eguard.detection.clauses import Clause, clause_of
from eguard.detection.regex_matching import compile_search, required_literal
from eguard.detection.regex_syntax import parse_regex
from eguard.detection.sigma_view import SigmaView
from eguard.detection.text_tests import TEXT_TESTS, TextTest
from eguard.detection.wildcards import WildcardPattern
from eguard.errors import RuleError

_NUMBER_TESTS: Final[dict[str, Callable[[float, float], bool]]] = {
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}
#: An IPv6 address with an embedded IPv4 address and a zone of an interface's name length.
_LONGEST_ADDRESS: Final = 64


class FieldTest:
    """One test of one field. Subclasses say when a wholly known value satisfies it."""

    __slots__ = ("description", "field")

    def __init__(self, field: str, description: str) -> None:
        self.field = field
        self.description = description

    def accepts(self, view: SigmaView) -> bool:
        """Return whether the present, wholly known value satisfies the test."""
        raise NotImplementedError

    def holds(self, view: SigmaView) -> bool:
        """Return whether the event certainly satisfies the test."""
        return self.field in view.values and self.field not in view.partial and self.accepts(view)

    def fails(self, view: SigmaView) -> bool:
        """Return whether the event certainly does not satisfy the test."""
        if self.field not in view.values:
            return view.is_complete
        return self.field not in view.partial and not self.accepts(view)

    def clauses(self) -> tuple[Clause, ...]:
        """Return what must be found for the test to hold; nothing by default."""
        return ()

    def fields(self) -> Iterator[str]:
        """Iterate over the fields read."""
        yield self.field

    def evidence(self, view: SigmaView) -> Iterator[tuple[str, str, str]]:
        """Iterate over (field, value, test), one for each field read."""
        yield self.field, view.values.get(self.field, ""), self.description


class LikeTest(FieldTest):
    """Any of some wildcard patterns."""

    __slots__ = ("is_cased", "patterns")

    def __init__(self, field: str, texts: Sequence[str], *, is_cased: bool) -> None:
        super().__init__(field, f"like {', '.join(map(repr, texts))}")
        self.is_cased = is_cased
        self.patterns = tuple(WildcardPattern(text if is_cased else text.lower()) for text in texts)

    def accepts(self, view: SigmaView) -> bool:
        """Return whether one pattern covers the whole value."""
        value = (view.values if self.is_cased else view.lowered)[self.field]
        return any(pattern.matches(value) for pattern in self.patterns)

    def clauses(self) -> tuple[Clause, ...]:
        """Return the longest literal of each pattern."""
        return clause_of(self.field, [pattern.longest_literal for pattern in self.patterns])


class KeywordTest(FieldTest):
    """Any of some wildcard patterns anywhere in the event's text."""

    __slots__ = ("patterns",)

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__("", f"keyword {', '.join(map(repr, texts))}")
        self.patterns = tuple(WildcardPattern(f"*{text.lower()}*") for text in texts)

    def holds(self, view: SigmaView) -> bool:
        """Return whether one pattern occurs."""
        return any(pattern.matches(view.everything) for pattern in self.patterns)

    def fails(self, view: SigmaView) -> bool:
        """Return whether the event is complete and no pattern occurs."""
        return view.is_complete and not view.partial and not self.holds(view)

    def evidence(self, view: SigmaView) -> Iterator[tuple[str, str, str]]:
        """Name the fields that hold a pattern."""
        for field, value in view.lowered.items():
            if any(pattern.matches(value) for pattern in self.patterns):
                yield field, view.values[field], self.description


class RegexTest(FieldTest):
    """A regular expression found in the value's first characters (`eguard.detection.regex_matching`)."""

    __slots__ = ("_found_in", "_literal")

    def __init__(self, field: str, pattern: str, flags: str) -> None:
        super().__init__(field, f"regex {pattern!r}")
        self._literal = required_literal(parse_regex(pattern, flags))
        self._found_in = compile_search(pattern, flags)

    def accepts(self, view: SigmaView) -> bool:
        """Return whether the expression is found."""
        return self._literal in view.lowered[self.field] and self._found_in(view.values[self.field])

    def clauses(self) -> tuple[Clause, ...]:
        """Return the literal that every match contains."""
        return clause_of(self.field, [self._literal])


class CidrTest(FieldTest):
    """An address in one of some networks."""

    __slots__ = ("networks",)

    def __init__(self, field: str, networks: Sequence[str]) -> None:
        super().__init__(field, f"cidr {', '.join(networks)}")
        try:
            self.networks = tuple(ipaddress.ip_network(network) for network in networks)
        except ValueError as error:
            raise RuleError(f"network is refused: {error}", reason="cidr") from error

    def accepts(self, view: SigmaView) -> bool:
        """Return whether the value is an address in one of the networks."""
        address = parse_address(view.values[self.field])
        return address is not None and any(
            address.version == network.version and address in network for network in self.networks
        )


class NumberTest(FieldTest):
    """A comparison with a number."""

    __slots__ = ("_compare", "number")

    def __init__(self, kind: str, field: str, number: float) -> None:
        super().__init__(field, f"{kind} {number}")
        self._compare = _NUMBER_TESTS[kind]
        self.number = number

    def accepts(self, view: SigmaView) -> bool:
        """Return whether the value is a number and compares as asked."""
        try:
            value = float(view.values[self.field])
        except ValueError:
            return False
        return self._compare(value, self.number)


class NullTest(FieldTest):
    """The field is absent."""

    __slots__ = ()

    def __init__(self, field: str) -> None:
        super().__init__(field, "is absent")

    def holds(self, view: SigmaView) -> bool:
        """Return whether the field is known to be absent."""
        return view.is_complete and self.field not in view.values

    def fails(self, view: SigmaView) -> bool:
        """Return whether the field is there."""
        return self.field in view.values


class ExistsTest(FieldTest):
    """The field is there."""

    __slots__ = ()

    def __init__(self, field: str) -> None:
        super().__init__(field, "is there")

    def holds(self, view: SigmaView) -> bool:
        """Return whether the field is there."""
        return self.field in view.values

    def fails(self, view: SigmaView) -> bool:
        """Return whether the field is known to be absent."""
        return view.is_complete and self.field not in view.values


class EqualsFieldTest(FieldTest):
    """Two fields are equal, ignoring case."""

    __slots__ = ("other",)

    def __init__(self, field: str, other: str) -> None:
        super().__init__(field, f"equals the field {other}")
        self.other = other

    def holds(self, view: SigmaView) -> bool:
        """Return whether both values are wholly known and equal."""
        return super().holds(view) and self.other in view.values and self.other not in view.partial

    def accepts(self, view: SigmaView) -> bool:
        """Return whether the values are equal."""
        return view.lowered[self.field] == view.lowered.get(self.other)

    def fails(self, view: SigmaView) -> bool:
        """Return whether the values certainly differ."""
        if self.field not in view.values or self.other not in view.values:
            return view.is_complete
        return self.field not in view.partial and self.other not in view.partial and not self.accepts(view)

    def fields(self) -> Iterator[str]:
        """Iterate over both fields."""
        yield self.field
        yield self.other


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return `text` as an address; None if it is none. An IPv4 address written as IPv6 counts as IPv4.

    Examples
    --------
    >>> parse_address("::ffff:10.0.0.1"), parse_address("10.0.0")
    (IPv4Address('10.0.0.1'), None)
    """
    return _parse_address(text) if len(text) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=4096)
def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def read_field_test(node: list[Any]) -> FieldTest | TextTest:
    r"""Build a field test from its JSON form.

    Raises
    ------
    RuleError
        The node is malformed or its test unknown.

    Examples
    --------
    >>> view = SigmaView({"CommandLine": "net  USER /add"})
    >>> read_field_test(["regex", "CommandLine", "net\\s+user", "i"]).holds(view)
    True
    >>> read_field_test(["contains_cased", "CommandLine", ["user"]]).holds(view)
    False
    """
    kind, field, *rest = node
    base = kind.removesuffix("_cased")
    if isinstance(field, str) and base in _WITH_TEXTS and len(rest) == 1:
        return _WITH_TEXTS[base](field, _texts(kind, rest[0]), is_cased=kind.endswith("_cased"))
    if isinstance(field, str) and kind in _WITH_VALUES:
        types, build = _WITH_VALUES[kind]
        if len(rest) == len(types) and all(map(isinstance, rest, types)):
            return build(field, *rest)
    raise RuleError(f"unknown or malformed test {str(node)[:80]}", reason="malformed")


#: Tests that take a list of texts and can heed case.
_WITH_TEXTS: Final[dict[str, Callable[..., FieldTest | TextTest]]] = {**TEXT_TESTS, "like": LikeTest}
#: Tests that take other values: their types, and how the test is built.
_WITH_VALUES: Final[dict[str, tuple[tuple[Any, ...], Callable[..., FieldTest]]]] = {
    "cidr": ((list,), lambda field, networks: CidrTest(field, _texts("cidr", networks))),
    "equals_field": ((str,), EqualsFieldTest),
    "exists": ((), ExistsTest),
    "keyword": ((list,), lambda _, texts: KeywordTest(_texts("keyword", texts))),
    "null": ((), NullTest),
    "regex": ((str, str), RegexTest),
    **{kind: ((int | float,), partial(NumberTest, kind)) for kind in _NUMBER_TESTS},
}


def _texts(kind: str, texts: Any) -> list[str]:
    """Return the texts of a test after checking that they are some."""
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise RuleError(f"a {kind} test takes a list of texts", reason="malformed")
    return texts

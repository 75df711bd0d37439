"""Predicate trees of compiled rules: read from JSON, checked, and asked about one event.

A node is a JSON list whose first item names it:

=====================================================  ==============================================================
``["all", node, ...]``, ``["any", node, ...]``         conjunction, disjunction
``["not", node]``                                      negation
``[test, field, [text, ...]]``                         any of the texts; tests in `eguard.detection.field_tests`
``[test, field, ...]``                                 the other field tests
=====================================================  ==============================================================

Every node answers two questions, because telemetry is incomplete (`eguard.detection.sigma_view`): does it certainly
hold, and does it certainly fail. On a complete event exactly one of them is true.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from eguard.detection.clauses import Clause, any_of, tightest
from eguard.detection.field_tests import read_field_test
from eguard.detection.sigma_view import SigmaView
from eguard.errors import RuleError

#: A tree deeper than this is refused: the deepest of the public rule set has 9 levels.
MAX_DEPTH: Final = 32


class Predicate(Protocol):
    """What a node of a tree can be asked."""

    def holds(self, view: SigmaView) -> bool:
        """Return whether the event certainly satisfies this node."""

    def fails(self, view: SigmaView) -> bool:
        """Return whether the event certainly does not satisfy this node."""

    def clauses(self) -> tuple[Clause, ...]:
        """Return what must be found in every event that satisfies this node, the tightest first."""

    def fields(self) -> Iterator[str]:
        """Iterate over the fields that this node reads; the empty name stands for all of them."""

    def evidence(self, view: SigmaView) -> Iterator[tuple[str, str, str]]:
        """Iterate over (field, value, test) of the field tests that make this node hold."""


class AllOf:
    """Holds when every child holds."""

    __slots__ = ("children",)

    def __init__(self, children: Sequence[Predicate]) -> None:
        self.children = tuple(children)

    def holds(self, view: SigmaView) -> bool:
        """Return whether every child certainly holds."""
        for child in self.children:  # noqa: SIM110  (a loop: generators cost twice as much here)
            if not child.holds(view):
                return False
        return True

    def fails(self, view: SigmaView) -> bool:
        """Return whether some child certainly fails."""
        return any(child.fails(view) for child in self.children)

    def clauses(self) -> tuple[Clause, ...]:
        """Return the tightest clauses of all children."""
        return tightest(clause for child in self.children for clause in child.clauses())

    def fields(self) -> Iterator[str]:
        """Iterate over the children's fields."""
        for child in self.children:
            yield from child.fields()

    def evidence(self, view: SigmaView) -> Iterator[tuple[str, str, str]]:
        """Iterate over the evidence of all children."""
        for child in self.children:
            yield from child.evidence(view)


class AnyOf:
    """Holds when one child holds."""

    __slots__ = ("children",)

    def __init__(self, children: Sequence[Predicate]) -> None:
        self.children = tuple(children)

    def holds(self, view: SigmaView) -> bool:
        """Return whether some child certainly holds."""
        for child in self.children:  # noqa: SIM110  (a loop: generators cost twice as much here)
            if child.holds(view):
                return True
        return False

    def fails(self, view: SigmaView) -> bool:
        """Return whether every child certainly fails."""
        return all(child.fails(view) for child in self.children)

    def clauses(self) -> tuple[Clause, ...]:
        """Return what the children's clauses have in common."""
        return any_of([child.clauses() for child in self.children])

    def fields(self) -> Iterator[str]:
        """Iterate over the children's fields."""
        for child in self.children:
            yield from child.fields()

    def evidence(self, view: SigmaView) -> Iterator[tuple[str, str, str]]:
        """Iterate over the evidence of the children that hold."""
        for child in self.children:
            if child.holds(view):
                yield from child.evidence(view)


class Not:
    """Holds when its child certainly fails."""

    __slots__ = ("child",)

    def __init__(self, child: Predicate) -> None:
        self.child = child

    def holds(self, view: SigmaView) -> bool:
        """Return whether the child certainly fails."""
        return self.child.fails(view)

    def fails(self, view: SigmaView) -> bool:
        """Return whether the child certainly holds."""
        return self.child.holds(view)

    def clauses(self) -> tuple[Clause, ...]:
        """Return nothing: what must be absent asks for nothing."""
        return ()

    def fields(self) -> Iterator[str]:
        """Iterate over the child's fields."""
        return self.child.fields()

    def evidence(self, view: SigmaView) -> Iterator[tuple[str, str, str]]:
        """Return nothing: what is absent cannot be shown."""
        del view
        return iter(())


def read_predicate(node: Any, *, depth: int = 0) -> Predicate:
    r"""Build a predicate from its JSON form.

    Raises
    ------
    RuleError
        The node is malformed, unknown or nested too deep.

    Examples
    --------
    >>> exclusion = ["not", ["contains", "CommandLine", ["dir"]]]
    >>> tree = read_predicate(["all", ["endswith", "Image", ["\\cmd.exe"]], exclusion])
    >>> tree.holds(SigmaView({"Image": "C:\\Windows\\CMD.EXE", "CommandLine": "cmd /c whoami"}))
    True
    >>> [sorted(clause) for clause in tree.clauses()]
    [[('Image', '\\cmd.exe')]]
    """
    if depth > MAX_DEPTH:
        raise RuleError(f"a rule is nested more than {MAX_DEPTH} deep", reason="nesting")
    if not isinstance(node, list) or len(node) < 2 or not isinstance(node[0], str):
        raise RuleError(f"not a rule node: {str(node)[:80]}", reason="malformed")
    kind = node[0]
    if kind in {"all", "any"}:
        children = [read_predicate(child, depth=depth + 1) for child in node[1:]]
        return AllOf(children) if kind == "all" else AnyOf(children)
    if kind == "not":
        if len(node) != 2:
            raise RuleError("a negation has one child", reason="malformed")
        return Not(read_predicate(node[1], depth=depth + 1))
    return read_field_test(node)

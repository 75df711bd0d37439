"""Predicate trees in their JSON form, as compilation builds them (read by `eguard.detection.rule_predicates`)."""

from __future__ import annotations

from typing import Any, Final

from eguard.detection.rule_predicates import read_predicate

Node = list[Any]

#: Tests whose texts can be joined when they are alternatives on one field.
_JOINABLE: Final = frozenset(
    f"{kind}{cased}" for kind in ("equals", "contains", "startswith", "endswith", "like") for cased in ("", "_cased")
) | {"cidr"}


def joined(kind: str, nodes: list[Node]) -> Node:
    """Return ``all`` or ``any`` of some nodes, as flat as it can be written.

    Nested nodes of the same kind are lifted one level, alternatives of one test on one field become one test, and a
    single node stands for itself.

    Examples
    --------
    >>> joined("any", [["equals", "User", ["a"]], ["any", ["equals", "User", ["b"]], ["null", "User"]]])
    ['any', ['equals', 'User', ['a', 'b']], ['null', 'User']]
    """
    flat: list[Node] = []
    for node in nodes:
        flat.extend(node[1:] if node[0] == kind else [node])
    kept: list[Node] = []
    by_test: dict[tuple[str, str], list[str]] = {}
    for node in flat:
        if kind == "all" or node[0] not in _JOINABLE:
            kept.append(node)
            continue
        test, field, texts = node
        earlier = by_test.get((test, field))
        if earlier is None:
            by_test[test, field] = own = list(texts)
            kept.append([test, field, own])
        else:
            earlier.extend(text for text in texts if text not in earlier)
    return kept[0] if len(kept) == 1 else [kind, *kept]


def event_codes(predicate: Node) -> list[int]:
    """Return the event codes outside which a tree cannot hold, sorted; empty if it names none.

    Examples
    --------
    >>> event_codes(["all", ["equals", "EventID", ["4688", "1102"]], ["exists", "User"]])
    [1102, 4688]
    """
    for clause in read_predicate(predicate).clauses():
        if all(field == "EventID" and code.isdigit() for field, code in clause):
            return sorted(int(code) for _, code in clause)
    return []

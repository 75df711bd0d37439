"""What the kernel's table amounts to: isolated, partly isolated, or not; compared with what every rule should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final, Literal
from urllib.parse import unquote

from eguard.agent.isolation.kernel import KernelTable
from eguard.agent.isolation.ruleset import (
    BASE_CHAINS,
    COUNTERS,
    FORMAT,
    PRIORITY,
    QUESTION_LIMIT,
    SETS,
    Rule,
    elements_digest,
)

State = Literal["isolated", "partial", "not_isolated"]
_QUESTION: Final = "question "
_RECORDED: Final = ("format", "since", "by", "sets")


@dataclass(frozen=True)
class Inspection:
    """What the kernel holds.

    Parameters
    ----------
    state : str
        ``isolated`` when every rule is in force as written by us, ``not_isolated`` when there is no table,
        ``partial`` otherwise.
    since_unix : int or None
        When the isolation began, in seconds since the epoch, as the table records it.
    requested_by : str
        Who asked for it, as the table records it.
    servers, resolvers : tuple of str
        What may be reached, as addresses.
    questions : tuple of str
        Tags of the names that may be asked for.
    dropped : dict of hook to {"packets", "bytes"}
        What was dropped since the rules were loaded.
    defects : tuple of str
        What is not as it should be, one sentence each.
    """

    state: State
    since_unix: int | None = None
    requested_by: str = ""
    servers: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    defects: tuple[str, ...] = ()


def inspect(table: KernelTable | None) -> Inspection:
    """Judge our table, or its absence."""
    if table is None:
        return Inspection("not_isolated")
    record = _record(table)
    since = record.get("since", "")
    defects = tuple(_defects(table, record))
    return Inspection(
        state="partial" if defects else "isolated",
        since_unix=int(since) if since.isascii() and since.isdigit() else None,
        requested_by=unquote(record.get("by", ""), errors="replace"),
        servers=tuple(sorted(map(_endpoint, (*table.sets.get("server_v4", ()), *table.sets.get("server_v6", ()))))),
        resolvers=tuple(sorted((*table.sets.get("resolver_v4", ()), *table.sets.get("resolver_v6", ())))),
        questions=tuple(tag.removeprefix(_QUESTION) for tag in _tags(table, "questions") if tag.startswith(_QUESTION)),
        dropped={
            name.removeprefix("dropped_"): dict(zip(("packets", "bytes"), table.counters[name], strict=True))
            for name in COUNTERS
            if name in table.counters
        },
        defects=defects,
    )


def _defects(table: KernelTable, record: dict[str, str]) -> Iterator[str]:
    """Yield what keeps the table from being whole."""
    if table.flags:
        yield "the table carries flags, so it may be dormant"
    for hook, rules in BASE_CHAINS.items():
        yield from _chain_defects(table, hook, rules)
    if tuple(name for name in _RECORDED if name in record) != _RECORDED:
        yield "the table's own record is incomplete"
    elif record["format"] != str(FORMAT):
        yield f"the rules have format {record['format']}, this version writes {FORMAT}"
    elif record["sets"] != elements_digest(table.sets):
        yield "the addresses let through are not those recorded"
    if missing := [name for name in SETS if name not in table.sets]:
        yield f"sets are missing: {', '.join(missing)}"
    asked = table.rules.get("questions")
    if not asked or not _is(asked[0], QUESTION_LIMIT):
        yield "the chain of DNS questions has lost its rate limit"
    elif not all(_is(rule, Rule(_tag(rule), "", "accept")) and _tag(rule).startswith(_QUESTION) for rule in asked[1:]):
        yield "the chain of DNS questions holds a rule that is not ours"
    for name in sorted(set(table.chains) - {*BASE_CHAINS, "record", "questions"}):
        yield f"the table holds a chain that is not ours: {name!r}"


def _chain_defects(table: KernelTable, hook: str, rules: tuple[Rule, ...]) -> Iterator[str]:
    chain = table.chains.get(hook)
    if chain is None:
        yield f"the {hook} chain is missing: its traffic is not filtered"
        return
    found = {name: chain.get(name) for name in ("type", "hook", "prio", "policy")}
    if found != {"type": "filter", "hook": hook, "prio": PRIORITY, "policy": "drop"}:
        yield f"the {hook} chain is not a filter at priority {PRIORITY} that drops by default"
    held = table.rules.get(hook, [])
    if len(held) != len(rules) or not all(map(_is, held, rules)):
        expected = {rule.tag for rule in rules}
        present = {_tag(rule) for rule in held}
        named = [f"without {tag!r}" for tag in sorted(expected - present)]
        named += [f"with {tag or 'an unnamed rule'!r}" for tag in sorted(present - expected)]
        yield f"the {hook} chain's rules were changed: {', '.join(named) or 'their order or verdicts'}"


def _is(rule: dict[str, Any], expected: Rule) -> bool:
    """Return whether the kernel's rule bears the expected tag and ends in the expected verdict."""
    verdict, _, target = expected.verdict.partition(" ")
    last = (rule.get("expr") or [{}])[-1]
    wanted = {verdict: {"target": target}} if target else {verdict: None}
    return _tag(rule) == expected.tag and last == wanted and len(rule["expr"]) > (expected.match != "")


def _record(table: KernelTable) -> dict[str, str]:
    """Return what the unhooked chain ``record`` says."""
    return dict(tag.split("=", 1) for tag in _tags(table, "record") if "=" in tag)


def _tags(table: KernelTable, chain: str) -> list[str]:
    return [_tag(rule) for rule in table.rules.get(chain, [])]


def _tag(rule: dict[str, Any]) -> str:
    return str(rule.get("comment", ""))


def _endpoint(element: str) -> str:
    """Return ``address . port`` as a person writes it."""
    address, _, port = element.partition(" . ")
    try:
        return f"[{address}]:{port}" if ip_address(address).version == 6 else f"{address}:{port}"
    except ValueError:
        return element

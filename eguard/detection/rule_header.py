"""What a compiled rule says about itself: identity, author, severity, ATT&CK, and the log source that it is for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from eguard.detection.log_sources import LogSource
from eguard.errors import RuleError

#: Severity of Sigma's levels as a fraction.
SEVERITY_FRACTION: Final = {"informational": 0.1, "low": 0.25, "medium": 0.5, "high": 0.75, "critical": 1.0}

#: ATT&CK's tactics as Sigma tags name them.
_TACTICS: Final = frozenset(
    {
        "reconnaissance",
        "resource-development",
        "initial-access",
        "execution",
        "persistence",
        "privilege-escalation",
        "defense-evasion",
        "stealth",
        "defense-impairment",
        "credential-access",
        "discovery",
        "lateral-movement",
        "collection",
        "command-and-control",
        "exfiltration",
        "impact",
    }
)
_TECHNIQUE: Final = re.compile(r"attack\.(t\d{4}(?:\.\d{3})?)")


@dataclass(frozen=True, slots=True)
class Rule:
    """Header of one rule. Id and author go wherever the rule or a match is shown: its licence asks for it."""

    id: str
    title: str
    level: str
    author: str
    status: str
    path: str
    licence: str
    tactics: tuple[str, ...]
    techniques: tuple[str, ...]
    is_hunting: bool

    @property
    def severity_fraction(self) -> float:
        """Return the level as a fraction in [0, 1]."""
        return SEVERITY_FRACTION[self.level]


class Selector(NamedTuple):
    """The log source that a rule is for; what is empty selects anything."""

    product: str
    category: str
    service: str
    event_codes: frozenset[int]

    def covers(self, source: LogSource) -> bool:
        """Return whether the rule applies to events of `source`."""
        return (
            (not self.product or self.product == source.product)
            and (not self.category or self.category in source.categories)
            and (not self.service or self.service in source.services)
            and (not self.event_codes or source.event_code in self.event_codes)
        )


def attack_of(tags: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ATT&CK tactics and techniques among a rule's tags, each sorted.

    Examples
    --------
    >>> attack_of(["attack.execution", "attack.t1059.001", "cve.2025-1", "attack.g0016"])
    (('execution',), ('T1059.001',))
    """
    names = {tag.lower() for tag in tags}
    tactics = {name.removeprefix("attack.").replace("_", "-") for name in names if name.startswith("attack.")}
    techniques = {found.group(1).upper() for name in names if (found := _TECHNIQUE.fullmatch(name))}
    return tuple(sorted(tactics & _TACTICS)), tuple(sorted(techniques))


class _SelectorForm(msgspec.Struct):
    """JSON form of a log source."""

    product: str
    category: str
    service: str
    event_codes: list[int]


class _RuleForm(msgspec.Struct):
    """JSON form of a rule's header; what else an item holds is not looked at here."""

    id: str
    title: str
    level: str
    author: str
    status: str
    path: str
    licence: str
    tags: list[str]
    selector: _SelectorForm
    is_hunting: bool = False


def read_header(item: Any) -> tuple[Rule, Selector]:
    """Read the header and the log source of one compiled rule.

    Raises
    ------
    RuleError
        Something is missing, of another type, or an unknown level.
    """
    try:
        form = msgspec.convert(item, _RuleForm)
    except msgspec.ValidationError as error:
        name = item.get("id") if isinstance(item, dict) else item
        raise RuleError(f"rule {name!s:.60}: its header is malformed: {error}", reason="malformed") from error
    if form.level not in SEVERITY_FRACTION:
        raise RuleError(f"rule {form.id}: there is no level {form.level!r}", reason="malformed", rule_id=form.id)
    tactics, techniques = attack_of(form.tags)
    rule = Rule(
        id=form.id,
        title=form.title,
        level=form.level,
        author=form.author,
        status=form.status,
        path=form.path,
        licence=form.licence,
        tactics=tactics,
        techniques=techniques,
        is_hunting=form.is_hunting,
    )
    source = form.selector
    return rule, Selector(source.product, source.category, source.service, frozenset(source.event_codes))

"""Layer 2: Sigma rules as compact JSON predicates, matched against batches of events.

The pipeline compiles the rules with pySigma (`eguard.mlops.rules`); an endpoint reads the result with this module and
needs neither pySigma nor YAML. Most events repeat ones already seen, down to the last field that a rule can read:
answers are remembered by those fields, so that a repeated event costs one dictionary look-up.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from eguard.detection.log_sources import LogSource, log_source_of
from eguard.detection.recent_cache import RecentCache
from eguard.detection.rule_header import Rule, Selector, read_header
from eguard.detection.rule_predicates import Predicate, read_predicate
from eguard.detection.rule_route import RuleRoute
from eguard.detection.sigma_fields import ColumnValues, aliases_of, columns_of, view_of_columns, view_of_record
from eguard.detection.sigma_view import SigmaView
from eguard.errors import RuleError
from eguard.events.columns import EventBatch
from eguard.events.model import Event

#: Version of the JSON form; another one is refused.
RULES_FORMAT: Final = 1
#: Distinct events whose answers are remembered, and the characters that their fields may hold together.
REMEMBERED_EVENTS: Final = 65_536
REMEMBERED_CHARACTERS: Final = 1 << 25

#: First byte of packed rules: whether the hunting rules among them are kept.
_WITHOUT_HUNTING: Final = b"0"
_WITH_HUNTING: Final = b"1"

_NO_MATCH: Final[tuple[int, ...]] = ()
#: Columns that a key begins with, and those of them that say where an event comes from.
_COLUMNS: Final = len(ColumnValues._fields)
_ORIGIN_COLUMNS: Final = 4
#: Sysmon's event for registry keys, whose log source depends on a field.
_SYSMON_REGISTRY: Final = 12
#: No channel has a longer name; what hostile records put there must not fill memory.
_CHANNEL_CHARACTERS: Final = 128


class RuleSet:
    r"""Compiled rules, ready to match.

    Parameters
    ----------
    rules : iterable of (Rule, Selector, Predicate)
        Header, log source and tree of each rule; their order gives the indices that `match` returns.

    Attributes
    ----------
    rules : tuple of Rule
        Headers by index.
    n_listed : int
        Rules of the file that they were read from, those included that were not kept.
    packed : bytes
        The JSON form that they were read from, made small: a fraction of what the read rules take. `from_packed` reads
        it in another process. Empty for rules that were not read from JSON.

    Notes
    -----
    A rule matches an event only if it certainly holds: on events rebuilt from columns, whose unnamed fields are
    unknown, an exclusion that cannot be checked keeps the rule silent. No text of an event makes `match` raise.

    Examples
    --------
    >>> ruleset = RuleSet.from_json({"format": 1, "rules": [{
    ...     "id": "6a1", "title": "Discovery", "author": "x", "level": "high", "status": "test", "path": "p.yml",
    ...     "licence": "DRL-1.1", "tags": ["attack.discovery", "attack.t1033"],
    ...     "selector": {"product": "windows", "category": "process_creation", "service": "", "event_codes": []},
    ...     "predicate": ["endswith", "Image", ["\\whoami.exe"]]}]})
    >>> batch = EventBatch(time_unix=[0.0], event_class=[0], source=["sysmon"], comm=["whoami.exe"])
    >>> ruleset.match(batch), ruleset.rules[0].severity_fraction, ruleset.rules[0].techniques
    ([(0,)], 0.75, ('T1033',))
    """

    def __init__(self, rules: Iterable[tuple[Rule, Selector, Predicate]]) -> None:
        entries = list(rules)
        self.rules: tuple[Rule, ...] = tuple(rule for rule, _, _ in entries)
        self.packed = b""
        self.n_listed = len(entries)
        self._selectors = tuple(selector for _, selector, _ in entries)
        self._predicates = tuple(predicate for _, _, predicate in entries)
        self._routes: dict[tuple[int, ...], RuleRoute] = {}
        self._plans: RecentCache[tuple[Any, ...], _Plan] = RecentCache(4096)
        self._answers: RecentCache[tuple[Any, ...], tuple[int, ...]] = RecentCache(
            REMEMBERED_EVENTS, REMEMBERED_CHARACTERS, _characters
        )

    @classmethod
    def from_json(cls, obj: Any, *, include_hunting: bool = False, text: bytes | None = None) -> RuleSet:
        """Read what the rules stage wrote.

        Parameters
        ----------
        obj : dict
            Content of ``rules.json``.
        include_hunting : bool
            Keep the threat-hunting rules too. They are noisy by intent and no evidence by themselves; without this they
            are read and counted, but not matched.
        text : bytes, optional
            What `obj` was parsed from, where that is at hand.

        Raises
        ------
        RuleError
            The form is of another version or malformed; names the rule.
        """
        if not isinstance(obj, dict) or obj.get("format") != RULES_FORMAT or not isinstance(obj.get("rules"), list):
            raise RuleError(f"not a rule file of format {RULES_FORMAT}", reason="malformed")
        entries = []
        for item in obj["rules"]:
            rule, selector = read_header(item)
            try:
                predicate = read_predicate(item.get("predicate"))
            except RuleError as error:
                raise RuleError(f"rule {rule.id} ({rule.title}): {error}", rule_id=rule.id, **error.context) from error
            if include_hunting or not rule.is_hunting:
                entries.append((rule, selector, predicate))
        ruleset = cls(entries)
        ruleset.n_listed = len(obj["rules"])
        packed = zlib.compress(json.dumps(obj).encode() if text is None else text, level=1)
        ruleset.packed = (_WITH_HUNTING if include_hunting else _WITHOUT_HUNTING) + packed
        return ruleset

    @classmethod
    def from_packed(cls, packed: bytes) -> RuleSet:
        """Read the rules of another set, in the same order, from its `packed`; none at all from nothing."""
        if not packed:
            return cls(())
        text = zlib.decompress(packed[1:])
        return cls.from_json(json.loads(text), include_hunting=packed[:1] == _WITH_HUNTING, text=text)

    def __len__(self) -> int:
        return len(self.rules)

    def match(self, batch: EventBatch) -> list[tuple[int, ...]]:
        """Return, for each event, the indices of the rules that it satisfies, ascending; most often the empty tuple."""
        answers: list[tuple[int, ...]] = []
        remembered, remember = self._answers.get, self._answers.put
        for key, fields in zip(self._keys(batch), batch.fields, strict=True):
            answer = remembered(key)
            if answer is None:
                columns = ColumnValues._make(key[:_COLUMNS])
                plan = self._plan(columns, fields or {})
                if plan.route.fields:
                    answer = plan.route.match(_view(columns, fields, plan))
                    remember(key, answer)
                else:
                    # No rule is for this log source: nothing is worth remembering.
                    answer = _NO_MATCH
            answers.append(answer)
        return answers

    def match_event(self, event: Event) -> tuple[int, ...]:
        """Return the indices of the rules that one event satisfies."""
        return self.match(EventBatch.from_events([event]))[0]

    def explain(self, index: int, event: Event) -> list[tuple[str, str, str]]:
        """Return (field, value, test) of what made rule `index` match; empty if it does not match the event."""
        columns = ColumnValues._make(getattr(event, name) for name in ColumnValues._fields)
        plan, predicate = self._plan(columns, event.fields or {}), self._predicates[index]
        if not self._selectors[index].covers(plan.log_source):
            return []
        view = _view(columns, event.fields, plan)
        return list(dict.fromkeys(predicate.evidence(view))) if predicate.holds(view) else []

    def _keys(self, batch: EventBatch) -> Iterable[tuple[Any, ...]]:
        """Return, for each event, everything that its answer depends on: its columns, then its own fields."""
        columns = columns_of(batch)
        if batch.fields.count(None) == len(batch):
            return columns
        return (
            key if fields is None else (*key, *self._record_key(ColumnValues._make(key), fields))
            for key, fields in zip(columns, batch.fields, strict=True)
        )

    def _record_key(self, columns: ColumnValues, fields: dict[str, str]) -> Iterable[Any]:
        """Return the values of a record's own fields that some rule may read."""
        plan = self._plan(columns, fields)
        if plan.key_fields is None:
            return (plan.log_source, *sorted(fields.items()))
        return (plan.log_source, *map(fields.get, plan.key_fields))

    def _plan(self, columns: ColumnValues, fields: Mapping[str, str]) -> _Plan:
        """Return how an event is matched, by what decides its log source."""
        origin = columns[:_ORIGIN_COLUMNS]
        image = (fields.get("Image") or columns.image_path)[:1]
        channel = (fields.get("Channel") or "")[:_CHANNEL_CHARACTERS]
        is_registry = columns.event_code == _SYSMON_REGISTRY
        action = (fields.get("EventType") or "")[:_CHANNEL_CHARACTERS] if is_registry else ""
        key = (*origin, image, channel, action)
        plan = self._plans.get(key)
        if plan is None:
            log_source = log_source_of(*origin, image=image, channel=channel, registry_action=action)
            plan = self._new_plan(log_source)
            self._plans.put(key, plan)
        return plan

    def _new_plan(self, log_source: LogSource) -> _Plan:
        """Gather the rules for a log source; sources with the same rules share one route."""
        indices = tuple(index for index, selector in enumerate(self._selectors) if selector.covers(log_source))
        route = self._routes.get(indices)
        if route is None:
            route = RuleRoute(indices, [self._predicates[index] for index in indices])
            self._routes[indices] = route
        names = None if "" in route.fields else tuple(sorted({*route.fields, *aliases_of(route.fields)}))
        return _Plan(log_source, route, names)


class _Plan(NamedTuple):
    """How events of one log source are matched."""

    log_source: LogSource
    route: RuleRoute
    #: Names under which a record may hold what the route's rules read; None: any name.
    key_fields: tuple[str, ...] | None


def _view(columns: ColumnValues, fields: Mapping[str, str] | None, plan: _Plan) -> SigmaView:
    """Return an event under Sigma's field names."""
    if fields is None:
        return view_of_columns(columns, plan.log_source)
    return view_of_record(fields, columns, plan.log_source, plan.route.fields)


def _characters(key: tuple[Any, ...]) -> int:
    """Return how much text a key holds."""
    return sum(len(part) for part in key if isinstance(part, str | tuple)) + 1

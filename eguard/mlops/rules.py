"""The ``rules`` stage: Sigma rules and indicator lists become the JSON that agents read.

The only module that imports pySigma. pySigma parses and expands (modifiers, ``windash``, ``base64offset``, selectors);
what comes out is a condition tree, and this module writes it down as `eguard.detection.rule_predicates` reads it. A
rule that cannot be carried over is counted by reason and listed in the report.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SigmaTimestampPart,
    SpecialChars,
)

from eguard.detection.indicators import IndicatorSet
from eguard.detection.log_sources import is_delivered
from eguard.detection.regex_matching import compile_search
from eguard.detection.rules import RULES_FORMAT, RuleSet
from eguard.detection.wildcards import wildcard_escape
from eguard.errors import RuleError
from eguard.mlops.demo_indicators import collect_indicators
from eguard.mlops.prefilter_strings import prefilter_strings
from eguard.mlops.rule_census import ordinary_command_lines, take_census
from eguard.mlops.rule_nodes import Node, event_codes, joined
from eguard.mlops.workspace import Workspace, write_artefact, write_report

#: Where the rules come from and under which licence; stands in the compiled file and in every rule.
LICENCE: Final = "DRL-1.1"
LICENCE_TEXT: Final = "https://github.com/SigmaHQ/Detection-Rule-License"
ORIGIN: Final = "https://github.com/SigmaHQ/sigma"
_HUNTING_FOLDER: Final = "rules-threat-hunting/"
_COMPARISONS: Final = {
    CompareOperators.LT: "less",
    CompareOperators.LTE: "less_equal",
    CompareOperators.GT: "greater",
    CompareOperators.GTE: "greater_equal",
}
#: Longest explanation of a refusal in the report.
_DETAIL_CHARACTERS: Final = 300
#: What pySigma raises, beside its own errors, on a document of another shape than a rule.
_MALFORMED: Final = (AttributeError, KeyError, TypeError, ValueError)
_YamlLoader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Progress = Callable[[str, int, int], None]


class RulesParams(BaseModel):
    """What the rules stage keeps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    statuses: tuple[str, ...] = Field(
        ("stable", "test", "experimental"), description="Sigma statuses of rules that are compiled"
    )
    prefilter_levels: tuple[str, ...] = Field(
        ("high", "critical"), description="Levels of the rules whose command-line strings feed the prefilter"
    )
    prefilter_min_characters: int = Field(
        5, ge=3, description="Shortest command-line string that the prefilter takes, in characters"
    )
    prefilter_max_background_fraction: float = Field(
        0.005, ge=0, le=1, description="Largest share of ordinary command lines that may contain a prefilter string"
    )
    census: bool = Field(default=True, description="Whether to match the shipped endpoint events and report counts")


def compile_rule(text: str, path: str, statuses: Iterable[str] = ("stable", "test", "experimental")) -> dict[str, Any]:
    """Compile one Sigma rule.

    Parameters
    ----------
    text : str
        The rule's YAML.
    path : str
        Its path in the rule set, which tells hunting rules from others.
    statuses : iterable of str
        Statuses that are kept.

    Returns
    -------
    dict
        Header, log source and predicate as `eguard.detection.rules.RuleSet.from_json` reads them.

    Raises
    ------
    RuleError
        The rule cannot be carried over; ``context["reason"]`` says why in one word.
    """
    try:
        document = yaml.load(text, Loader=_YamlLoader)  # noqa: S506  (a safe loader in either form)
        if "correlation" in document:
            raise RuleError("it is a correlation of other rules", reason="correlation")
        rule = SigmaRule.from_dict(document)
        conditions = [condition.parse() for condition in rule.detection.parsed_condition]
    except (SigmaError, yaml.YAMLError, *_MALFORMED) as error:
        raise RuleError(f"pySigma refuses it: {error}", reason="unparsable") from error
    if str(rule.status or "") not in statuses:
        raise RuleError(f"its status is {rule.status}", reason="status")
    if rule.level is None:
        raise RuleError("it has no level", reason="no_level")
    source = rule.logsource
    selector = [source.product or "", source.category or "", source.service or ""]
    if not is_delivered(*selector):
        raise RuleError(f"no sensor or parser delivers {'/'.join(filter(None, selector))}", reason="log_source")
    predicate = joined("any", [_node(condition) for condition in conditions])
    codes = event_codes(predicate)
    return {
        "id": str(rule.id),
        "title": rule.title,
        "author": rule.author or "",
        "level": str(rule.level),
        "status": str(rule.status),
        "tags": [str(tag) for tag in rule.tags],
        "path": path,
        "licence": rule.license or LICENCE,
        "is_hunting": path.startswith(_HUNTING_FOLDER),
        "selector": {
            "product": selector[0],
            "category": selector[1],
            "service": selector[2],
            "event_codes": codes,
        },
        "predicate": predicate,
    }


def _node(condition: Any) -> Node:
    """Write one node of pySigma's condition tree."""
    if isinstance(condition, ConditionAND):
        return joined("all", [_node(argument) for argument in condition.args])
    if isinstance(condition, ConditionOR):
        return joined("any", [_node(argument) for argument in condition.args])
    if isinstance(condition, ConditionNOT):
        return ["not", _node(condition.args[0])]
    if isinstance(condition, ConditionFieldEqualsValueExpression):
        return _field_test(condition.field, condition.value)
    if isinstance(condition, ConditionValueExpression):
        return _keyword(condition.value)
    raise RuleError(
        f"a condition of type {type(condition).__name__} has no counterpart", reason="unsupported_condition"
    )


def _field_test(field: str, value: Any) -> Node:
    """Write the test of one field against one of pySigma's values."""
    for kind, write in _VALUE_TESTS:
        if isinstance(value, kind):
            return write(field, value)
    raise RuleError(f"a value of type {type(value).__name__} has no counterpart", reason="unsupported_value")


def _regex_test(field: str, value: SigmaRegularExpression) -> Node:
    """Write a regular expression after checking that an endpoint can run it."""
    pattern, flags = str(value.regexp), "".join(sorted(value.sigma_to_re_flag[flag] for flag in value.flags))
    compile_search(pattern, flags)
    return ["regex", field, pattern, flags]


def _comparison(field: str, value: SigmaCompareExpression) -> Node:
    """Write a comparison with a number."""
    if value.op is CompareOperators.NEQ:
        return ["not", ["equals", field, [str(value.number)]]]
    return [_COMPARISONS[value.op], field, value.number.number]


def _field_reference(field: str, value: SigmaFieldReference) -> Node:
    """Write a comparison of two fields."""
    if value.starts_with or value.ends_with:
        raise RuleError("it compares a part of a field with another field", reason="unsupported_value")
    return ["equals_field", field, value.field]


def _time_part(field: str, value: SigmaTimestampPart) -> Node:
    raise RuleError(f"it tests a part of the time {field}: {value}", reason="unsupported_timestamp")


def _string_test(field: str, value: SigmaString) -> Node:
    """Write a string with wildcards as the cheapest test that means the same."""
    cased = "_cased" if isinstance(value, SigmaCasedString) else ""
    parts = _parts(value)
    literals = [part for part in parts if isinstance(part, str)]
    many = SpecialChars.WILDCARD_MULTI
    if not literals and parts and set(parts) == {many}:
        return ["exists", field]
    if len(literals) <= 1:
        text = literals[0] if literals else ""
        kind = {
            (): "equals",
            (text,): "equals",
            (many, text): "endswith",
            (text, many): "startswith",
            (many, text, many): "contains",
        }.get(tuple(parts))
        if kind is not None:
            return [f"{kind}{cased}", field, [text]]
    return [f"like{cased}", field, [_pattern(parts)]]


#: How each of pySigma's values is written, the more special type first.
_VALUE_TESTS: Final[tuple[tuple[Any, Callable[[str, Any], Node]], ...]] = (
    (SigmaExpansion, lambda field, value: joined("any", [_field_test(field, item) for item in value.values])),
    (SigmaString, _string_test),
    (SigmaTimestampPart, _time_part),
    (SigmaNumber | SigmaBool, lambda field, value: ["equals", field, [str(value).lower()]]),
    (SigmaRegularExpression, _regex_test),
    (SigmaCIDRExpression, lambda field, value: ["cidr", field, [str(value.network)]]),
    (SigmaCompareExpression, _comparison),
    (SigmaFieldReference, _field_reference),
    (SigmaNull, lambda field, _: ["null", field]),
    (SigmaExists, lambda field, value: ["exists" if value.exists else "null", field]),
)


def _keyword(value: Any) -> Node:
    """Write a search in all fields."""
    if isinstance(value, SigmaExpansion):
        return joined("any", [_keyword(item) for item in value.values])
    if isinstance(value, SigmaString):
        return ["keyword", "", [_pattern(_without_outer_wildcards(_parts(value)))]]
    if isinstance(value, SigmaNumber):
        return ["keyword", "", [str(value)]]
    raise RuleError(f"a keyword of type {type(value).__name__} has no counterpart", reason="unsupported_keyword")


def _parts(value: SigmaString) -> list[str | SpecialChars]:
    """Return the parts of a string, neighbouring literals joined."""
    parts: list[str | SpecialChars] = []
    for part in value.s:
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        elif isinstance(part, str | SpecialChars):
            parts.append(part)
        else:
            raise RuleError(f"the placeholder %{part.name}% is for the reader to fill", reason="placeholder")
    return parts


def _without_outer_wildcards(parts: list[str | SpecialChars]) -> list[str | SpecialChars]:
    """Return parts without wildcards at the ends: a keyword is found anywhere as it is."""
    many = SpecialChars.WILDCARD_MULTI
    start = next((at for at, part in enumerate(parts) if part is not many), len(parts))
    stop = next((at for at in range(len(parts), start, -1) if parts[at - 1] is not many), start)
    return parts[start:stop]


def _pattern(parts: list[str | SpecialChars]) -> str:
    """Write parts as a wildcard pattern."""
    return "".join(
        wildcard_escape(part) if isinstance(part, str) else "*" if part is SpecialChars.WILDCARD_MULTI else "?"
        for part in parts
    )


def run(params: RulesParams, *, seed: int, workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Compile the shipped rules and indicator lists; write both files and ``reports/rules.json``.

    Parameters
    ----------
    params : RulesParams
        What to keep.
    seed : int
        Not used: nothing here is drawn.
    workspace : Workspace
        Reads ``data/raw`` and ``data/indicators``, writes ``data/interim`` and ``reports``.
    progress : callable, optional
        Told (label, done, total).

    Returns
    -------
    dict
        The report.

    Raises
    ------
    RuleError
        The rule file or an indicator list cannot be read.
    """
    del seed
    kept, refused = compile_rules(workspace.raw / "sigma-rules" / "rules.ndjson.gz", params, progress)
    background = ordinary_command_lines(workspace)
    strings = prefilter_strings(
        kept,
        background,
        levels=params.prefilter_levels,
        min_characters=params.prefilter_min_characters,
        max_background_fraction=params.prefilter_max_background_fraction,
    )
    indicators = IndicatorSet(collect_indicators(workspace))
    artefact = {
        "format": RULES_FORMAT,
        "licence": LICENCE,
        "licence_text": LICENCE_TEXT,
        "origin": ORIGIN,
        "rules": kept,
        "prefilter": strings,
    }
    write_artefact(workspace.interim / "rules.json", artefact)
    write_artefact(workspace.interim / "indicators.json", indicators.to_json())
    report = _report(kept, refused, indicators) | {
        "prefilter_strings": len(strings),
        "prefilter_background_lines": len(background),
        "census": take_census(RuleSet.from_json(artefact), workspace, progress) if params.census else {},
    }
    write_report(workspace.reports / "rules.json", report)
    return report


def compile_rules(
    path: Path, params: RulesParams, progress: Progress | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Compile a file of rules (NDJSON: path, yaml).

    Returns
    -------
    tuple of (list, list)
        Compiled rules by path, and the refused ones: path, id and title where known, reason, detail.

    Raises
    ------
    RuleError
        The file is missing or damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        rows.sort(key=lambda row: row["path"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise RuleError(f"{path} cannot be read: {error}", reason="unreadable") from error
    kept: dict[str, dict[str, Any]] = {}
    refused = []
    for number, row in enumerate(rows):
        if progress is not None and number % 100 == 0:
            progress("rules", number, len(rows))
        try:
            compiled = compile_rule(row["yaml"], row["path"], params.statuses)
        except RuleError as error:
            reason = str(error.context.get("reason", error.code))
            refused.append({"path": row["path"], "reason": reason, "detail": str(error)[:_DETAIL_CHARACTERS]})
            continue
        earlier = kept.setdefault(compiled["id"], compiled)
        if earlier is not compiled:
            detail = f"{earlier['path']} has the same id"
            refused.append({"path": row["path"], "reason": "duplicate_id", "detail": detail})
    return list(kept.values()), refused


def _report(kept: list[dict[str, Any]], refused: list[dict[str, str]], indicators: IndicatorSet) -> dict[str, Any]:
    """Count what was kept and what was refused, and why."""
    sources = Counter("/".join(filter(None, list(rule["selector"].values())[:3])) for rule in kept)
    return {
        "licence": LICENCE,
        "origin": ORIGIN,
        "rules": len(kept),
        "hunting_rules": sum(rule["is_hunting"] for rule in kept),
        "rules_by_level": dict(Counter(rule["level"] for rule in kept)),
        "rules_by_log_source": dict(sources),
        "refused": len(refused),
        "refused_by_reason": dict(Counter(entry["reason"] for entry in refused)),
        "refused_rules": refused,
        "indicators": len(indicators),
        "indicators_by_kind": dict(Counter(indicator.kind for indicator in indicators.indicators)),
    }

"""What must hold of rule matching for every tree, text and expression."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.detection.linear_regex import LinearRegex
from eguard.detection.regex_matching import required_literal
from eguard.detection.regex_syntax import parse_regex
from eguard.detection.rule_predicates import read_predicate
from eguard.detection.rule_route import RuleRoute
from eguard.detection.sigma_view import Knowledge, SigmaView
from eguard.detection.wildcards import WildcardPattern, wildcard_escape

FIELDS = ("Image", "CommandLine", "User")
TEXTS = st.text(alphabet="abAB\\.", max_size=6)
PATTERNS = st.text(alphabet="ab*?\\", max_size=8)

LEAVES = st.one_of(
    st.builds(
        lambda kind, field, texts: [kind, field, texts],
        st.sampled_from(
            [f"{kind}{cased}" for kind in ("equals", "contains", "startswith", "endswith") for cased in ("", "_cased")]
        ),
        st.sampled_from(FIELDS),
        st.lists(TEXTS, min_size=1, max_size=3),
    ),
    st.builds(lambda field, pattern: ["like", field, [pattern]], st.sampled_from(FIELDS), PATTERNS),
    st.builds(lambda kind, field: [kind, field], st.sampled_from(["null", "exists"]), st.sampled_from(FIELDS)),
    st.builds(lambda one, other: ["equals_field", one, other], st.sampled_from(FIELDS), st.sampled_from(FIELDS)),
    st.builds(lambda field: ["regex", field, "a+b", "i"], st.sampled_from(FIELDS)),
    st.builds(lambda text: ["keyword", "", [wildcard_escape(text)]], TEXTS),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            lambda kind, nodes: [kind, *nodes], st.sampled_from(["all", "any"]), st.lists(inner, min_size=1, max_size=3)
        ),
        st.builds(lambda node: ["not", node], inner),
    ),
    max_leaves=6,
)
EVENTS = st.dictionaries(st.sampled_from(FIELDS), TEXTS)


@given(TREES, EVENTS)
def test_on_a_complete_event_a_tree_either_holds_or_fails(tree, fields):
    predicate, view = read_predicate(tree), SigmaView(fields)
    assert predicate.holds(view) is not predicate.fails(view)


@given(TREES, EVENTS, st.data())
def test_what_is_certain_of_a_part_is_true_of_the_whole(tree, fields, data):
    known: dict[str, str] = {}
    partial: dict[str, Knowledge] = {}
    for name, value in fields.items():
        knowledge = data.draw(st.sampled_from([None, *Knowledge]))
        if knowledge is None:
            continue
        start = data.draw(st.integers(0, len(value))) if knowledge in {Knowledge.END, Knowledge.FRAGMENT} else 0
        stop = len(value)
        if knowledge in {Knowledge.START, Knowledge.FRAGMENT}:
            stop = data.draw(st.integers(start, len(value)))
        known[name] = value[start:stop]
        if knowledge is not Knowledge.WHOLE:
            partial[name] = knowledge
    predicate, whole = read_predicate(tree), SigmaView(fields)
    part = SigmaView(known, partial, is_complete=False)
    assert not predicate.holds(part) or predicate.holds(whole)
    assert not predicate.fails(part) or predicate.fails(whole)


@given(TREES, EVENTS)
def test_an_event_that_satisfies_a_tree_meets_all_its_clauses(tree, fields):
    predicate, view = read_predicate(tree), SigmaView(fields)
    if predicate.holds(view):
        for clause in predicate.clauses():
            assert any(text in view.lowered.get(field, "") for field, text in clause)


@given(st.lists(TREES, min_size=1, max_size=6), EVENTS)
def test_a_route_finds_what_each_tree_finds_alone(trees, fields):
    predicates, view = [read_predicate(tree) for tree in trees], SigmaView(fields)
    expected = tuple(number for number, predicate in enumerate(predicates) if predicate.holds(view))
    assert RuleRoute(range(len(trees)), predicates).match(view) == expected


@given(TREES, EVENTS)
def test_evidence_of_a_tree_that_holds_is_text_of_the_event(tree, fields):
    predicate, view = read_predicate(tree), SigmaView(fields)
    if predicate.holds(view):
        for field, value, test in predicate.evidence(view):
            assert value == view.values.get(field, "")
            assert test


@given(PATTERNS, st.text(alphabet="ab*?\\\n", max_size=12))
def test_wildcards_agree_with_the_expression_they_stand_for(pattern, text):
    parts = re.findall(r"\\.|.|\\$", pattern, re.DOTALL)
    meaning = {"*": ".*", "?": "."}
    expression = "".join(
        meaning.get(part) or re.escape(part[1:] if part.startswith("\\") and len(part) > 1 else part) for part in parts
    )
    assert WildcardPattern(pattern).matches(text) is (re.fullmatch(expression, text, re.DOTALL) is not None)


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", r"\s", "^", "$", r"\b", r"\.", "-"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda branches: f"(?:{'|'.join(branches)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=6,
)
SUBJECTS = st.text(alphabet="abAB .-_\n", max_size=10)


@settings(max_examples=300)
@given(EXPRESSIONS, SUBJECTS, st.sampled_from(["", "i"]))
def test_linear_matching_agrees_with_pythons_engine(pattern, text, flags):
    expected = re.search(pattern, text, re.ASCII | (re.IGNORECASE if flags else 0)) is not None
    assert LinearRegex(parse_regex(pattern, flags)).found_in(text) is expected


@given(EXPRESSIONS, SUBJECTS)
def test_every_match_contains_the_required_literal(pattern, text):
    if re.search(pattern, text, re.ASCII):
        assert required_literal(parse_regex(pattern)) in text.lower()

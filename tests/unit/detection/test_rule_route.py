"""A route evaluates few rules and loses none."""

import numpy as np

from eguard.detection.rule_predicates import read_predicate
from eguard.detection.rule_route import RuleRoute
from eguard.detection.sigma_view import SigmaView


def route(*nodes):
    return RuleRoute(range(10, 10 + len(nodes)), [read_predicate(node) for node in nodes])


def test_only_rules_whose_clauses_are_met_are_candidates():
    rules = route(
        ["all", ["endswith", "Image", ["\\cmd.exe"]], ["contains", "CommandLine", ["whoami"]]],
        ["all", ["endswith", "Image", ["\\cmd.exe"]], ["contains", "CommandLine", ["netstat"]]],
        ["endswith", "Image", ["\\net.exe"]],
    )
    view = SigmaView({"Image": "c:\\cmd.exe", "CommandLine": "cmd /c WHOAMI"})
    assert rules.candidates(view) == [0]
    assert rules.match(view) == (10,)


def test_an_absent_field_rules_out_what_needs_it():
    rules = route(["contains", "CommandLine", ["whoami"]], ["not", ["contains", "CommandLine", ["whoami"]]])
    assert rules.candidates(SigmaView({})) == [1]


def test_a_route_without_rules_matches_nothing():
    empty = route()
    assert empty.fields == ()
    assert empty.match(SigmaView({"Image": "x"})) == ()


def test_it_finds_what_evaluating_every_rule_finds():
    rng = np.random.default_rng(3)
    words = ["alpha", "beta", "gamma", "delta", "ab", "zeta.exe"]
    fields = ["Image", "CommandLine", "User"]

    def leaf():
        kind = str(rng.choice(["contains", "endswith", "startswith", "equals"]))
        texts = [str(word) for word in rng.choice(words, size=rng.integers(1, 3))]
        return [kind, str(rng.choice(fields)), texts]

    def node(depth):
        if depth == 0 or rng.random() < 0.3:
            return leaf()
        kind = str(rng.choice(["all", "any", "not"]))
        return [kind, *(node(depth - 1) for _ in range(1 if kind == "not" else rng.integers(2, 4)))]

    nodes = [node(3) for _ in range(200)]
    rules = route(*nodes)
    plain = [read_predicate(one) for one in nodes]
    for _ in range(150):
        present = [field for field in fields if rng.random() < 0.8]
        view = SigmaView({field: " ".join(rng.choice(words, size=rng.integers(0, 4))) for field in present})
        expected = tuple(10 + number for number, predicate in enumerate(plain) if predicate.holds(view))
        assert rules.match(view) == expected

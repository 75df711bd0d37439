"""Clauses: what a rule implies, and which of it is kept."""

import math
import subprocess
import sys
from pathlib import Path

from eguard.detection.clauses import MOST_CLAUSES, any_of, clause_of, looseness, tightest


def test_a_clause_is_in_lower_case_and_says_nothing_when_a_text_is_short():
    assert clause_of("Image", ["\\CMD.exe"]) == (frozenset({("Image", "\\cmd.exe")}),)
    assert clause_of("CommandLine", ["whoami", "/c"]) == ()
    assert clause_of("CommandLine", ["whoami", ""]) == ()


def test_a_single_character_beyond_ascii_says_enough():
    assert clause_of("CommandLine", ["\u202e"]) == (frozenset({("CommandLine", "\u202e")}),)
    assert clause_of("CommandLine", ["\u212a"]) == ()  # the Kelvin sign, whose lower case is k


def test_the_tightest_come_first_and_duplicates_go():
    loose = clause_of("CommandLine", ["abc", "defg"])
    tight = clause_of("CommandLine", ["invoke-mimikatz"])
    assert tightest((*loose, *tight, *tight)) == (*tight, *loose)


def test_no_more_clauses_are_kept_than_a_route_has_slots_for():
    clauses = [clause for number in range(20) for clause in clause_of("Image", [f"\\tool{number}.exe"])]
    assert len(tightest(clauses)) == MOST_CLAUSES


def test_a_disjunction_implies_the_union_of_one_clause_of_each_branch():
    first = (*clause_of("Image", ["\\a.exe"]), *clause_of("CommandLine", ["alpha"]))
    second = clause_of("OriginalFileName", ["b.exe"])
    assert set(any_of([first, second])) == {first[0] | second[0], first[1] | second[0]}


def test_a_branch_that_implies_nothing_leaves_nothing():
    assert any_of([clause_of("Image", ["\\a.exe"]), ()]) == ()


def test_the_order_of_clauses_does_not_hang_on_the_order_of_a_set():
    texts = [f"tool{'x' * number}" for number in range(40)]
    one = frozenset(("CommandLine", text) for text in texts)
    other = frozenset(("CommandLine", text) for text in reversed(texts))
    assert looseness(one) == looseness(other) == math.fsum(0.6 ** min(4 + number, 12) for number in range(40))


def test_the_order_is_the_same_in_every_process():
    program = (
        "from eguard.detection.clauses import clause_of, tightest\n"
        "made = [clause_of('F', [f'{name}{i:04d}' + 'x' * (i * k % 9) for i in range(64)]) for k, name in "
        "enumerate('abcdefgh', start=1)]\n"
        "print([min(clause) for (clause,) in map(tuple, made) if clause in tightest(c for m in made for c in m)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert len(outputs) == 1

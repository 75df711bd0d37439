"""Clauses: what a rule implies, and which of it is kept."""

from eguard.detection.clauses import MOST_CLAUSES, any_of, clause_of, tightest


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

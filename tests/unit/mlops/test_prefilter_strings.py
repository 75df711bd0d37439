"""Choosing the prefilter's strings."""

from eguard.mlops.prefilter_strings import prefilter_strings


def rule(predicate, level="high", *, is_hunting=False):
    return {"level": level, "is_hunting": is_hunting, "predicate": predicate}


def contains(*texts, field="CommandLine"):
    return ["contains", field, list(texts)]


def strings(*rules, background=(), most=0.1, shortest=5):
    return prefilter_strings(
        rules, background, levels=("high", "critical"), min_characters=shortest, max_background_fraction=most
    )


def test_strings_of_severe_rules_are_taken_and_their_rules_counted():
    rules = [rule(contains("Mimikatz", "lsadump::")), rule(contains("mimikatz"), "critical")]
    assert strings(*rules) == {"lsadump::": 1, "mimikatz": 2}


def test_other_levels_hunting_rules_and_exclusions_give_none():
    assert strings(rule(contains("mimikatz"), "medium")) == {}
    assert strings(rule(contains("mimikatz"), is_hunting=True)) == {}
    assert strings(rule(["not", contains("mimikatz")])) == {}


def test_only_the_tightest_clause_counts_and_only_if_it_is_about_the_command_line():
    assert strings(rule(["all", contains(" -enc "), contains("frombase64string")])) == {"frombase64string": 1}
    assert strings(rule(["all", contains("delete"), ["endswith", "Image", ["\\vssadmin.exe"]]])) == {}
    either = ["any", contains("mimikatz"), contains("mimikatz", field="ParentCommandLine")]
    assert strings(rule(either)) == {}


def test_short_strings_are_left_out_blanks_not_counted():
    assert strings(rule(contains("  -e  ", "-encode"))) == {"-encode": 1}


def test_text_beyond_ascii_is_left_to_the_rules():
    assert strings(rule(contains("\U0001f937\U0001f3fc\u200d\u2642\ufe0f", "mimikatz"))) == {"mimikatz": 1}


def test_what_ordinary_lines_contain_too_often_is_left_out():
    background = ["cmd /c dir", "net group x", "ipconfig", "net group y"]
    rules = [rule(contains("net group")), rule(contains("ipconfig"))]
    assert strings(*rules, background=background, most=0.25) == {"ipconfig": 1}


def test_a_string_that_contains_another_adds_nothing():
    rules = [rule(contains("encodedcommand")), rule(contains(" -encodedcommand "))]
    assert strings(*rules) == {"encodedcommand": 1}

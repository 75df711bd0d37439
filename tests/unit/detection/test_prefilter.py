"""The command-line prefilter: distinct strings, case, bounds."""

import numpy as np
import pytest

from eguard.detection.prefilter import CommandLinePrefilter
from eguard.errors import RuleError

PREFILTER = CommandLinePrefilter({"mimikatz": 2, "SEKURLSA::": 1, " -enc ": 4})


def test_distinct_strings_are_counted_once_each_whatever_their_case():
    lines = ["MIMIKATZ mimikatz", "x sekurlsa::logon -ENC aa", "powershell -encoded", ""]
    counts = PREFILTER.counts(lines)
    assert counts.dtype == np.int64
    assert counts.tolist() == [1, 2, 0, 0]
    assert PREFILTER.counts(lines).tolist() == [1, 2, 0, 0]


def test_signatures_name_what_was_found():
    assert PREFILTER.signatures("a -enc mimikatz") == (" -enc ", "mimikatz")


def test_it_reads_its_strings_from_the_rule_file():
    prefilter = CommandLinePrefilter.from_json({"prefilter": {"evil": 3}})
    assert (len(prefilter), prefilter.rules_by_text) == (1, {"evil": 3})


@pytest.mark.parametrize("obj", [None, {}, {"prefilter": []}, {"prefilter": {"": 1}}, {"prefilter": {"a": "1"}}])
def test_a_rule_file_without_strings_is_refused(obj):
    with pytest.raises(RuleError):
        CommandLinePrefilter.from_json(obj)


def test_no_strings_and_no_lines():
    assert CommandLinePrefilter({}).counts(["anything"]).tolist() == [0]
    assert PREFILTER.counts([]).shape == (0,)


@pytest.mark.parametrize("line", ["\0", "\ud800", "x" * 300_000, "\u0130" * 100])
def test_no_line_makes_it_raise(line):
    assert PREFILTER.counts([line]).tolist() == [0]

"""The page goes from every symptom to checks that exist, and names every check."""

import re
from pathlib import Path

import pytest

from eguard.operations import CHECKS, SYMPTOMS

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "troubleshoot.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}


def checks_in_first_column(text):
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


@pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda symptom: symptom.checks[0])
def test_a_symptom_has_its_section_and_its_checks(symptom):
    headings = [heading for heading in SECTIONS if heading.replace("`", "") == f"Symptom: {symptom.heading}"]
    assert len(headings) == 1
    assert tuple(checks_in_first_column(SECTIONS[headings[0]])) == symptom.checks


def test_there_is_no_symptom_that_no_check_explains():
    assert len([heading for heading in SECTIONS if heading.startswith("Symptom: ")]) == len(SYMPTOMS)


def test_the_list_of_all_checks_is_whole():
    assert checks_in_first_column(SECTIONS["All checks"]) == list(CHECKS)

"""The page on file formats names every format and every reason that the parsers can give."""

import re
from pathlib import Path

import pytest

from eguard.events.parsers import FORMATS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "formats.md").read_text()
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "eguard" / "events" / "parsers").glob("*.py")))
GIVEN = r'(?:reason=|reject\(|skip\(|repair\(|_refused\(|repairs\.append\(|return )"((?:\w+_)+\w+)"'
CHOSEN = r'"(bad_csv|no_host|bad_time|no_rule|wrong_type)"'
REASONS = sorted({*re.findall(GIVEN, SOURCE), *re.findall(CHOSEN, SOURCE)})


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_described(name):
    assert f"| `{name}` |" in PAGE or f"`{name}`" in PAGE
    assert PAGE.count(f"`{name}`") >= 2


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_explained(reason):
    assert f"`{reason}`" in PAGE


def test_the_reasons_are_found_in_the_source():
    assert {"bad_json", "bad_time", "bad_number", "cut_off", "cut_xml", "other_channel", "no_rule"} <= set(REASONS)
    assert len(REASONS) >= 24


def test_no_reason_is_explained_that_nothing_gives():
    table = PAGE.split("## What becomes of every row")[1].split("A damaged file")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(REASONS)

"""Pages that code writes are what the code would write now."""

from pathlib import Path

import pytest

from eguard.cli.reference import PAGES, cli_markdown, params_markdown

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("name", "render"), [("cli.md", cli_markdown), ("params.md", params_markdown)])
def test_generated_page_is_current(name, render):
    assert (ROOT / PAGES / name).read_text() == render(), "run: python -m eguard.cli.reference"


def test_every_command_explains_itself():
    missing = [
        block.split("\n", 1)[0] for block in cli_markdown().split("\n## ")[1:] if not block.split("\n")[2].strip()
    ]
    assert missing == []


def test_every_parameter_has_a_meaning():
    rows = [line for line in params_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if row.split("|")[2].strip() == ""] == []

"""Pages that code writes are what the code would write now."""

import os
from pathlib import Path

import pytest

from eguard.cli.reference import cli_markdown, generated_pages, params_markdown
from eguard.settings import SETTINGS_CLASSES, AgentSettings, load_agent_settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted(generated_pages()))
def test_generated_page_is_current(path):
    assert (ROOT / path).read_text() == generated_pages()[path](), "run: python -m eguard.cli.reference"


def test_every_command_explains_itself():
    missing = [
        block.split("\n", 1)[0] for block in cli_markdown().split("\n## ")[1:] if not block.split("\n")[2].strip()
    ]
    assert missing == []


def test_every_parameter_has_a_meaning():
    rows = [line for line in params_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if row.split("|")[2].strip() == ""] == []


def test_every_setting_has_a_meaning_and_a_line_in_the_example():
    page, example = (generated_pages()[path]() for path in ("docs/reference/settings.md", "deploy/eguard.env.example"))
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `EGUARD_")]
    assert len(rows) == sum(len(model.model_fields) for model in SETTINGS_CLASSES)
    assert [row for row in rows if row[2].strip() == ""] == []
    lines = example.splitlines()
    assert [
        key for key in AgentSettings.model_fields if not any(x.startswith(f"#EGUARD_{key.upper()}=") for x in lines)
    ] == []


def test_the_example_with_every_line_in_effect_gives_the_defaults(monkeypatch):
    for name in [name for name in os.environ if name.startswith("EGUARD_")]:
        monkeypatch.delenv(name)
    defaults = load_agent_settings()
    lines = [
        line[1:] for line in generated_pages()["deploy/eguard.env.example"]().splitlines() if line.startswith("#EGUARD")
    ]
    given = dict(line.split("=", 1) for line in lines)
    assert given.pop("EGUARD_CONFIG") == "/etc/eguard/agent.toml"
    for variable, value in given.items():
        if value:
            monkeypatch.setenv(variable, value)
    assert load_agent_settings() == defaults

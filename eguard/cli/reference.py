"""The pages that are written by code: command line, parameters and settings. A test keeps them current."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import typer.main
from pydantic import BaseModel

from eguard.cli.settings_reference import environment_example, settings_markdown


def cli_markdown() -> str:
    """Return the reference page of the command line: the help text of every command, as the terminal prints it."""
    from eguard.cli.app import app

    lines = [
        "# Command line",
        "",
        "Exit codes: 0 done, 1 a check or gate failed, 2 wrong usage or bad input, 3 something is missing on this",
        "machine. Every reading command takes `--json`.",
        "",
    ]
    root: Any = typer.main.get_command(app)
    root.list_commands(None)  # makes its groups
    for path, command in _commands("eguard", root):
        lines += [f"## {path}", "", _plain(command.help or ""), ""]
        rows = [row for row in map(_describe, command.params) if row]
        if rows:
            lines += ["| argument | meaning | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Walk the tree of groups; typer's own click classes only promise these attributes."""
    yield path, command
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(f"{path} {name}", child)


def _plain(text: str) -> str:
    return text.replace("[bold]", "`").replace("[/bold]", "`").replace("\n\n", "\n").strip()


def _describe(parameter: Any) -> str | None:
    if parameter.name in ("help", "install_completion", "show_completion"):
        return None
    if isinstance(parameter, click.Argument) or parameter.param_type_name == "argument":
        name = parameter.name.upper()
    else:
        name = ", ".join(parameter.opts)
    default = "" if parameter.default in (None, False) or callable(parameter.default) else f"`{parameter.default}`"
    meaning = (getattr(parameter, "help", None) or "").replace("|", "\\|")
    return f"| `{name}` | {meaning} | {'required' if parameter.required else default} |"


def params_markdown() -> str:
    """Return the reference page of `params.yaml`: every key with its meaning and its default."""
    from eguard.mlops.params import Params

    lines = [
        "# Parameters",
        "",
        "`params.yaml` has one section a stage. An unknown key, a wrong type or a value out of range is refused by",
        "name. Environment variables `EGUARD_ML_*` override some of them per machine ([settings](settings.md)).",
        "",
    ]
    for section, field in Params.model_fields.items():
        model = field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        lines += [f"## {section}", "", (model.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " "), ""]
        if model.model_fields:
            lines += ["| key | meaning | default |", "|---|---|---|", *_fields(model), ""]
    return "\n".join(lines)


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True) if not field.is_required() else None
        shown = "required" if field.is_required() else f"`{default}`"
        meaning = (field.description or "").replace("|", "\\|")
        yield f"| `{prefix}{name}` | {meaning} | {shown} |"


def generated_pages() -> dict[str, Callable[[], str]]:
    """Return what renders each generated file, by its path in the repository."""
    return {
        "docs/reference/cli.md": cli_markdown,
        "docs/reference/params.md": params_markdown,
        "docs/reference/settings.md": settings_markdown,
        "deploy/eguard.env.example": environment_example,
    }


def main() -> None:
    """Write the generated files below the current folder."""
    for path, render in generated_pages().items():
        Path(path).write_text(render())


if __name__ == "__main__":
    main()

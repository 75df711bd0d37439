"""What is collected and what is asked for, as data: one file a concept."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load_table(name: str) -> tuple[dict[str, Any], ...]:
    """Return the rows of a table of this package.

    Examples
    --------
    >>> [row["title"] for row in load_table("sql_statements")][:1]
    ['12.4: rows in endpoint_baseline']
    """
    text = (files(__name__) / f"{name}.toml").read_text("utf-8")
    rows: list[dict[str, Any]] = tomllib.loads(text)["row"]
    return tuple(rows)

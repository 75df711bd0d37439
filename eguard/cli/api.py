"""How commands ask a running server, and print what it answers."""

from __future__ import annotations

import json
from typing import Any

from eguard.cli.output import print_facts, print_json, printable


def get(path: str, **query: str | None) -> dict[str, Any]:
    """Return the answer to a GET of the server that EGUARD_API names."""
    from eguard.operations.server_api import ServerApi

    with ServerApi.from_settings() as api:
        return api.get(path, **query)


def post(path: str, **body: Any) -> dict[str, Any]:
    """Send a body, without what is None, and return the answer."""
    from eguard.operations.server_api import ServerApi

    with ServerApi.from_settings() as api:
        return api.post(path, {name: value for name, value in body.items() if value is not None})


def tell(answer: dict[str, Any], *, as_json: bool) -> None:
    """Print an answer: as JSON, or a fact a line."""
    if as_json:
        print_json(answer)
    else:
        print_facts({name: fact_text(value) for name, value in answer.items()})


def fact_text(value: Any) -> str:
    """Return a value as one printable line.

    Examples
    --------
    >>> fact_text("web-01"), fact_text(None), fact_text({"percent": 5.0})
    ('web-01', '-', '{"percent": 5.0}')
    """
    if value is None:
        return "-"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))

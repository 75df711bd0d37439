"""What the server's administration answers (manual 8.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eguard.errors import EguardError
from eguard.evidence.pack.writer import PackWriter
from eguard.evidence.tables import load_table

#: Asks the server: a path below /api/v1 and its query.
Ask = Callable[..., dict[str, Any]]


def collect_answers(pack: PackWriter, ask: Ask | None, why_not: str = "") -> None:
    """Ask every GET of the table and write down the question and the answer, or the refusal."""
    with pack.section("api") as section:
        if ask is None:
            pack.miss(section, why_not or "no server was asked")
            return
        for row in load_table("api_answers"):
            query = row.get("query", {})
            try:
                answer = ask(row["path"], **query)
            except EguardError as error:
                pack.miss(section, f"GET {row['path']}: {error}")
                continue
            pack.add_json(section, row["name"], {"request": f"GET {row['path']}", "query": query, "answer": answer})
        section.notes.append("only GETs are asked; what POSTs did is in the audit log, in policy/ and in the drills")

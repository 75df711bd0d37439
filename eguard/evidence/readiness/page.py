"""The gate as a page that needs nothing else: boxes, and under each the drills with what they ran and saw."""

from __future__ import annotations

from html import escape
from typing import Any, Final

from eguard import __version__
from eguard.evidence.readiness.gate import BoxStanding, DrillStanding, Readiness

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #16202a; }
h1 small { font-weight: normal; color: #5b6b7a; font-size: 1rem; }
section { border-left: 4px solid #c0392b; padding: .2rem 1rem; margin: 1rem 0; }
section.ticked { border-color: #00896b; }
h2 { font-size: 1.05rem; margin: .2rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { border-top: 1px solid #dfe6ec; padding: .25rem .5rem; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; }
.missed { color: #c0392b; } .passed { color: #00705a; } code { font-size: .85rem; }
"""


def readiness_page(found: Readiness) -> str:
    """Return the gate as HTML; every text that comes from a record is escaped."""
    verdict = "READY" if found.is_ready else "NOT READY"
    boxes = "".join(map(_box, found.boxes))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>eGuard: {verdict}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{verdict} <small>eGuard {escape(__version__)}, judged "
        f"{escape(found.judged_at)}</small></h1>{boxes}</body></html>\n"
    )


def _box(standing: BoxStanding) -> str:
    mark, kind = ("☑", "ticked") if standing.is_ticked else ("☐", "open")
    drills = "".join(map(_drill, standing.drills))
    return f'<section class="{kind}"><h2>{mark} {escape(standing.box.title)}</h2>{drills}</section>'


def _drill(standing: DrillStanding) -> str:
    kind = "passed" if standing.counts else "missed"
    head = f'<p><code>{escape(standing.command)}</code> <span class="{kind}">{escape(standing.why)}</span></p>'
    record = standing.record
    if record is None:
        return head
    commands = "".join(f"<li><code>{escape(each['command'])}</code></li>" for each in record["commands"])
    rows = "".join(map(_check, record["checks"]))
    table = f"<table><tr><th></th><th>check</th><th>observed</th><th>asked</th></tr>{rows}</table>"
    return f"{head}<details><summary>{escape(record['started_at'])}</summary><ol>{commands}</ol>{table}</details>"


def _check(check: dict[str, Any]) -> str:
    word = "passed" if check["passed"] else "missed"
    cells = "".join(f"<td>{escape(str(check[name]))}</td>" for name in ("name", "observed", "asked"))
    return f'<tr><td class="{word}">{word}</td>{cells}</tr>'

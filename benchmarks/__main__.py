"""`make bench`: every benchmark in one run, as a table of ratios against a peer measured beside it.

Each module here has ``run()``, which returns rows ``{name, ours, peer, unit, ratio, target_ratio}``. A row without a
peer states an absolute figure and its target in ``ours`` and ``target``. Nothing here is asserted: times belong to the
machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import pkgutil
import platform
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import structlog
from rich.console import Console
from rich.table import Table


def main() -> int:
    """Run the chosen benchmarks and print them."""
    folder = Path(__file__).parent
    names = sorted(module.name for module in pkgutil.iter_modules([str(folder)]) if not module.name.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run; all by default: {', '.join(names)}")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(names))
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(names)}")
    # Log lines would be measured with what they tell of, and lie across the table.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    console = Console(stderr=True)
    rows: list[dict[str, Any]] = []
    for name in arguments.names or names:
        with console.status(f"measuring {name}"):
            rows += importlib.import_module(f"benchmarks.{name}").run()
    if arguments.json:
        sys.stdout.write(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")
    else:
        print_rows(rows)
    return 0


def machine() -> dict[str, Any]:
    """Say on what the figures were measured."""
    return {"python": platform.python_version(), "processor": platform.machine(), "cores": os.cpu_count()}


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table; a target that is missed is marked."""
    facts = machine()
    table = Table(title=f"Python {facts['python']}, {facts['processor']}, {facts['cores']} cores", title_justify="left")
    for column in ("benchmark", "eGuard", "peer", "unit", "ratio", "target", ""):
        table.add_column(column, justify="left" if column in ("benchmark", "unit", "") else "right")
    for row in rows:
        target = row.get("target_ratio")
        reached = row.get("ratio")
        wanted = f"{target:g}x" if target is not None else "-"
        if target is None and row.get("target") is not None:
            target, reached = row["target"], row["ours"]
            wanted = f"{'at most ' if row.get('lower_is_better') else ''}{target:,.7g}"
        met = ""
        if target is not None and reached is not None:
            good = reached <= target if row.get("lower_is_better") else reached >= target
            met = "[green]met[/]" if good else "[red]missed[/]"
        table.add_row(row["name"], _number(row["ours"]), _number(row.get("peer")), row["unit"],
                      f"{row['ratio']:.1f}x" if row.get("ratio") is not None else "-", wanted, met)  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())

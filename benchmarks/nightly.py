"""A night from end to end, as `eguard ml nightly` runs it: 60,000 judged alerts and 30,000 shipped rows.

The command is timed as a program of its own with all its stages. Its memory is at most twice that of its largest
process: two work at once, the run itself and one stage.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks._night_database import CORPUS, add_verdicts
from eguard.simulate.programs import eguard_command, environment

ROOT: Final = Path(__file__).parents[1]
TARGET_SECONDS: Final = 120.0
TARGET_MEBIBYTES: Final = 2048.0


def run() -> list[dict[str, Any]]:
    """Measure one night; without the pipeline's corpus there is nothing to judge, and the row says so."""
    if not CORPUS.is_file():
        return [_row("nightly: not measured, `make demo` makes its corpus", None, "s", TARGET_SECONDS)]
    with tempfile.TemporaryDirectory() as name:
        report = _night(Path(name))
    rows, status = report["corpus"]["rows"], report["status"]
    title = f"nightly: {rows:,} rows, end to end ({status})"
    return [
        _row(title, report["seconds"], "s", TARGET_SECONDS),
        _row("nightly: processor time of it", report["cpu_seconds"], "s", None),
        _row(
            "nightly: memory, at most (twice that of its largest process)",
            2 * report["peak_rss_bytes"] / 2**20,
            "MiB",
            TARGET_MEBIBYTES,
        ),
    ]


def _row(name: str, ours: float | None, unit: str, target: float | None) -> dict[str, Any]:
    return {"name": name, "ours": ours, "unit": unit, "target": target, "lower_is_better": True}


def _night(folder: Path) -> dict[str, Any]:
    url = f"sqlite:///{folder / 'fleet.sqlite'}"
    add_verdicts(url)
    settings = {
        "EGUARD_DATABASE_URL": url,
        "EGUARD_SERVER_STATE_PATH": str(folder / "server"),
        "EGUARD_ML_AGENT_REPO_PATH": str(ROOT),
        "EGUARD_ML_OUTPUT_ROOT": str(folder / "nights"),
    }
    ended = subprocess.run(
        [eguard_command(), "ml", "nightly", "--json"],
        env=environment(settings),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    report: dict[str, Any] = json.loads(ended.stdout)
    return report

"""Collecting a pack: every source in turn, each for itself; what is not there is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eguard import __version__
from eguard.evidence.pack.answers import Ask, collect_answers
from eguard.evidence.pack.artefacts import collect_artefacts, collect_notebooks
from eguard.evidence.pack.drills import collect_drills
from eguard.evidence.pack.logs import collect_logs
from eguard.evidence.pack.pictures import collect_screenshots
from eguard.evidence.pack.rows import collect_rows
from eguard.evidence.pack.software import collect_software
from eguard.evidence.pack.writer import PackWriter
from eguard.evidence.redaction import Redactor
from eguard.evidence.signing import Custody
from eguard.fleet.database import Database

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where evidence is.

    Parameters
    ----------
    custody : Custody
        Signs the pack, and holds the records of drills.
    runs : Path
        ``EGUARD_ML_OUTPUT_ROOT``.
    workspace : Path
        Folder in which the pipeline worked; its ``reports`` are taken.
    database : Database, optional
        The fleet's.
    ask : callable, optional
        Asks the server's administration; `why_not` says why there is none.
    logs : sequence of Path
        Log files.
    journal_since : str
        From when the journal of eGuard's services is taken, as journalctl reads it; empty: not at all.
    screenshots : Path, optional
        Folder of PNG files.
    """

    custody: Custody
    runs: Path
    workspace: Path
    database: Database | None = None
    ask: Ask | None = None
    why_not: str = ""
    logs: Sequence[Path] = ()
    journal_since: str = ""
    screenshots: Path | None = None


def collect_pack(
    out: Path, sources: Sources, redactor: Redactor, *, now: float, progress: Progress | None = None
) -> dict[str, Any]:
    """Write a signed pack to the folder `out`, and return its manifest's predicate.

    Raises
    ------
    ConfigError
        `out` exists.
    EvidenceError
        Something would have held a secret after all; nothing was written.
    """
    steps: list[tuple[str, Callable[[PackWriter], None]]] = [
        ("versions and settings", lambda pack: collect_software(pack, sources.database)),
        ("rows of the database", lambda pack: collect_rows(pack, sources.database)),
        ("answers of the server", lambda pack: collect_answers(pack, sources.ask, sources.why_not)),
        ("logs", lambda pack: collect_logs(pack, sources.logs, sources.journal_since)),
        ("runs", lambda pack: collect_artefacts(pack, sources.runs, sources.workspace)),
        ("notebooks", lambda pack: collect_notebooks(pack, sources.workspace)),
        ("screenshots", lambda pack: collect_screenshots(pack, sources.screenshots)),
        ("drills", lambda pack: collect_drills(pack, sources.custody, now)),
    ]
    signer = sources.custody.signer()
    with PackWriter(out, redactor) as pack:
        for label, step in steps:
            if progress is not None:
                progress(label, 0, 1)
            step(pack)
            if progress is not None:
                progress(label, 1, 1)
        facts = {
            "collected_at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
            "collected_at_unix": now,
            "eguard": __version__,
            "key_id": signer.public_key.keyid,
        }
        predicate: dict[str, Any] = pack.seal(facts, signer)["predicate"]
    return predicate

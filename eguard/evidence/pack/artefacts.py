"""What runs left: reports, models, logs of nights, and executed notebooks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from eguard.evidence.pack.writer import PackWriter, Section
from eguard.evidence.tables import load_table

_MAX_BYTES: Final = 32 << 20
_NOTEBOOKS: Final = ("reports/*.ipynb", "reports/*.html")


def collect_artefacts(pack: PackWriter, runs: Path, workspace: Path) -> None:
    """Take the files of the table, from the nights' folder and from the pipeline's workspace."""
    with pack.section("runs") as section:
        places = {"runs": runs, "workspace": workspace}
        lacking: list[str] = []
        for row in load_table("run_artefacts"):
            found = list(_files(places[row["under"]], row["pattern"]))
            for path in found:
                _take(pack, section, path, f"{path.parent.name if path.parent != runs else 'runs'}-{path.name}")
            if not found and row.get("is_required"):
                lacking.append(row["pattern"])
        if lacking:
            pack.miss(section, f"there is no {', '.join(lacking)} in {runs}")


def collect_notebooks(pack: PackWriter, workspace: Path) -> None:
    """Take the executed notebooks and their pages."""
    with pack.section("notebooks") as section:
        for pattern in _NOTEBOOKS:
            for path in _files(workspace, pattern):
                _take(pack, section, path, path.name)
        if not section.files:
            pack.miss(section, f"there are no executed notebooks in {workspace / 'reports'}")
        elif next(_files(workspace, "reports/*.pdf"), None) is not None:
            section.notes.append("PDF files are left out: their text cannot be looked through; the pages are here")


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield regular files of a pattern, none twice. A folder may be a link, as `latest` is; a file may not."""
    seen = set()
    for path in sorted(folder.glob(pattern)):
        if path.is_file() and not path.is_symlink() and path.resolve() not in seen:
            seen.add(path.resolve())
            yield path


def _take(pack: PackWriter, section: Section, path: Path, name: str) -> None:
    if any(note.startswith(f"{path}:") for note in section.notes):
        return
    size = path.stat().st_size
    if size > _MAX_BYTES:
        section.notes.append(f"{path}: left out, {size:,} bytes")
        return
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        section.notes.append(f"{path}: left out, it is no text and cannot be looked through")
        return
    if path.suffix in {".json", ".ipynb"}:
        try:
            value = json.loads(text)
            clean = pack.redactor.value(value)
        except (ValueError, RecursionError):
            pack.add_text(section, name, text)
            return
        if clean != value:
            text = json.dumps(clean, indent=1, ensure_ascii=False) + "\n"
        pack.add_clean(section, name, text.encode("utf-8", "backslashreplace"))
        return
    pack.add_text(section, name, text)

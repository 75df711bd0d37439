"""Logs: files that an operator names and the journal of eGuard's services, and what they say (manual 8.3)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from eguard.evidence.pack.writer import PackWriter, Section
from eguard.evidence.redaction import Redactor
from eguard.evidence.tables import load_table

#: Of a longer log the end is taken.
MAX_BYTES: Final = 8 << 20
_JOURNAL_SECONDS: Final = 60.0
_MOST_LINES: Final = "--lines=50000"


def collect_logs(pack: PackWriter, files: Sequence[Path], journal_since: str = "") -> None:
    """Take logs into the pack, and count the lines that operators look for."""
    with pack.section("logs") as section:
        said: dict[str, dict[str, int]] = {}
        for path in files:
            try:
                text = _end_of(path, section)
            except OSError as error:
                pack.miss(section, f"{path}: {error.strerror}")
                continue
            said[path.name] = _keep(pack, section, path.name, text)
        for unit in (row["unit"] for row in load_table("log_units")) if journal_since else ():
            text = _journal(unit, journal_since)
            if text:
                said[unit] = _keep(pack, section, f"{unit}.log", text)
            else:
                section.notes.append(f"the journal of {unit} is empty or cannot be read")
        if said:
            pack.add_json(section, "phrases", said)
        else:
            pack.miss(section, "no log was named (--log), and there is no journal of eGuard's services")


def _keep(pack: PackWriter, section: Section, name: str, text: str) -> dict[str, int]:
    lines = pack.redactor.without_keys(text).splitlines(keepends=True)
    pack.add_clean(section, name, "".join(_clean(pack.redactor, lines)).encode("utf-8", "backslashreplace"))
    return {row["phrase"]: text.count(row["phrase"]) for row in load_table("log_phrases")}


def _clean(redactor: Redactor, lines: Iterable[str]) -> Iterable[str]:
    """Yield lines without secrets; of those that are JSON objects, fields are judged by their names as well."""
    for line in lines:
        try:
            value: Any = json.loads(line) if line.startswith("{") else None
            clean = json.dumps(redactor.value(value), ensure_ascii=False) if isinstance(value, dict) else ""
        except (ValueError, RecursionError):  # no JSON, or deeper than anything that eGuard writes
            clean = ""
        yield f"{clean}\n" if clean else redactor.text(line)


def _end_of(path: Path, section: Section) -> str:
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(size - MAX_BYTES, 0))
        data = stream.read(MAX_BYTES)
    if size > MAX_BYTES:
        data = data.partition(b"\n")[2]
        section.notes.append(f"{path.name} has {size:,} bytes; its last {len(data):,} are here")
    return data.decode("utf-8", "replace")


def _journal(unit: str, since: str) -> str:
    """Return a service's journal, the end of it if it is long; nothing where there is none."""
    program = shutil.which("journalctl")
    if program is None:
        return ""
    command = [program, "--no-pager", "--quiet", "--output=cat", f"--unit={unit}", f"--since={since}", _MOST_LINES]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_JOURNAL_SECONDS)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout[-MAX_BYTES:].decode("utf-8", "replace")

"""Checks of what an agent keeps: the baseline store and the alerts that wait for a server. Both are only read."""

from __future__ import annotations

from eguard.errors import AlertBufferError
from eguard.operations.check import Finding, failed, ok, skipped, warning
from eguard.operations.examination import Examination


def check_baseline_store(examination: Examination) -> Finding:
    """Check that every byte of the baseline store is what the format says."""
    look = examination.store
    if not look.exists:
        return skipped(f"there is no baseline in {look.folder}: nothing was learned yet, or it is kept elsewhere")
    if look.error is not None:
        return failed(look.error.message, look.error.remedy)
    report = look.report
    if report["problems"]:
        said = "; ".join(f"{each['file']}: {each['reason']}" for each in report["problems"])
        return failed(
            f"the baseline store is damaged: {said}",
            f"Keep a copy of {look.folder} to look into (eguard store verify {look.folder}), then restart the agent: "
            "it sets the damaged file aside and goes on from what is intact. Test the disk, too.",
        )
    words = (
        f"{report['profiles']} profiles, generation {report['generation']}, operation {report['operation']}"
        f"{', an agent writes to it' if report['is_in_use'] else ''}"
    )
    if report["set_aside"]:
        return warning(
            f"{words}; damaged files were set aside earlier: {', '.join(report['set_aside'])}",
            f"Test the disk, then remove them from {look.folder}.",
        )
    return ok(words)


def check_alert_buffer(examination: Examination) -> Finding:
    """Check that alerts that wait for a server can be read, and none had to be dropped."""
    from eguard.agent.buffer import FILE_NAME  # noqa: PLC0415 - only this check needs sqlite3
    from eguard.agent.buffer_reader import read_buffer  # noqa: PLC0415

    path = examination.settings.state_path / FILE_NAME
    if not path.exists():
        return skipped(f"there is no {path}: no agent has raised an alert here yet")
    try:
        found = read_buffer(path, 0)
    except AlertBufferError as error:
        return failed(error.message, error.remedy)
    words = f"{found.waiting} alerts wait, {found.appended_total} were raised, {path.stat().st_size:,} bytes"
    if found.dropped_total:
        return warning(
            f"{words}; the oldest {found.dropped_total} gave way to newer ones",
            "See that the server can be reached (checks server_*), or raise EGUARD_ALERT_BUFFER_MAX_BYTES.",
        )
    return ok(words)

"""The figures that matter, and whether the bounds held."""

from __future__ import annotations

from typing import Any, Final

_BOUND: Final = ("upload", "fetch")


def verdict(report: dict[str, Any], *, max_p99_ms: float | None = None, max_errors: int = 0) -> dict[str, Any]:
    """Return whether a run passed, what it missed, and its figures in words.

    Parameters
    ----------
    report : dict
        Of `eguard.simulate.load.run_load`.
    max_p99_ms : float, optional
        Bound on the slowest of a hundred uploads, and of a hundred fetches.
    max_errors : int
        Requests and connections that may have failed.
    """
    misses = []
    if report["failed"] > max_errors:
        misses.append(f"{report['failed']:,} requests or connections failed, at most {max_errors:,} may")
    for name in _BOUND if max_p99_ms is not None else ():
        reached = report["operations"].get(name, {}).get("p99_ms")
        if reached is None or reached > max_p99_ms:
            misses.append(f"p99 of {name} is {reached} ms, at most {max_p99_ms:g} ms")
    for phase in ("start", "herd"):
        found = report.get(phase)
        if found is not None and found["served"] < found["agents"]:
            misses.append(
                f"{phase}: {found['agents'] - found['served']:,} of {found['agents']:,} agents were not served"
            )
    if report.get("visits", {}).get("unfinished"):
        misses.append(f"{report['visits']['unfinished']:,} visits did not end")
    profiles = report["profiles"]
    if profiles["accepted"] != profiles["sent"]:
        misses.append(f"{profiles['sent'] - profiles['accepted']:,} of {profiles['sent']:,} profiles were not taken")
    switch = report.get("kill_switch")
    if switch is not None and (switch["refused_seconds"] is None or switch["all_told_seconds"] is None):
        misses.append("the kill switch did not reach everybody")
    return {"passed": not misses, "misses": misses, "scale": _scale(report)}


def _scale(report: dict[str, Any]) -> list[tuple[str, str]]:
    options = report["options"]
    kind = (
        "that wait for their policy" if options["is_polling"] else f"that come every {options['interval_seconds']:g} s"
    )
    rows = [
        (f"agents {kind}", f"{options['agents']:,}"),
        ("connections at once, most", f"{report['most_connected']:,}"),
        ("agents waiting at once, most", f"{report['most_waiting']:,}"),
        ("uploads", f"{report['uploads']:,} of {options['profiles']} profiles"),
        ("profiles taken", f"{report['profiles']['accepted']:,} of {report['profiles']['sent']:,}"),
    ]
    for phase, title in (("start", "all agents started and served after"), ("herd", "herd served after")):
        if phase in report:
            found = report[phase]
            rows.append(
                (title, f"{_seconds(found['last_seconds'])}, half of it after {_seconds(found['half_seconds'])}")
            )
    if "kill_switch" in report:
        found = report["kill_switch"]
        rows += [
            ("kill switch: uploads refused after", _seconds(found["refused_seconds"])),
            (f"kill switch: {found['waiting']:,} waiting agents told after", _seconds(found["waiting_told_seconds"])),
            ("kill switch: everybody told after", _seconds(found["all_told_seconds"])),
        ]
    if "server" in report:
        rows.append(("server: memory, most", f"{report['server']['peak_mib']:,.0f} MiB"))
        rows.append(("server: processor time", _seconds(report["server"]["cpu_seconds"])))
    own = report["generator"]
    rows.append(("generator: memory, most", f"{own['peak_mib']:,.0f} MiB, {own['before_mib']:,.0f} before the run"))
    rows.append(("generator: processor time", _seconds(own["cpu_seconds"])))
    if "database" in report:
        found = report["database"]
        rows.append(("in the database", f"{found['agents']:,} agents, {found['profiles']:,} profiles"))
    rows.append(("failed", f"{report['failed']:,}"))
    return rows


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:,.2f} s"

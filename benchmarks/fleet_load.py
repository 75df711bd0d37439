"""A fleet on one server: ten thousand agents that stay, their return as a herd, a hundred thousand that come and go.

Server and generator share the machine's cores, as the targets say. Every run makes its own certificates and starts its
own server; making them is not measured. Memory is the sum of the proportional shares (PSS) of the server's processes.
"""

from __future__ import annotations

from typing import Any

from eguard.simulate.load import LoadOptions, run_load

AGENTS = 10_000
START_SECONDS = 45.0
TARGET_START_SECONDS = 60
TARGET_MEMORY_MIB = 400
HERD_SECONDS = 10.0
TARGET_HERD_SECONDS = 120
TARGET_SWITCH_SECONDS = 1
TARGET_TOLD_SECONDS = 5
MANY = 100_000
INTERVAL_SECONDS = 900.0
MANY_SECONDS = 300.0
TARGET_P99_MILLISECONDS = 250
_NEVER_SECONDS = 86_400.0


def run() -> list[dict[str, Any]]:
    """Measure."""
    staying = run_load(
        LoadOptions(
            agents=AGENTS,
            start_seconds=START_SECONDS,
            hold_seconds=10.0,
            herd_seconds=HERD_SECONDS,
            kill_switch=True,
        )
    )
    coming = run_load(
        LoadOptions(agents=MANY, interval_seconds=INTERVAL_SECONDS, hold_seconds=MANY_SECONDS, is_polling=False)
    )
    return [*_staying_rows(staying), *_coming_rows(coming)]


def _staying_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    start, herd, switch = report["start"], report["herd"], report["kill_switch"]
    failed = {
        phase: sum(each["count"] for each in report["failures"] if each["phase"] == phase)
        for phase in ("start", "hold", "herd")
    }
    return [
        _row(
            f"{start['served']} of {AGENTS} agents connected, uploaded 20 profiles each and wait",
            start["last_seconds"],
            "s",
            TARGET_START_SECONDS,
        ),
        _row("failures while they start and stay", failed["start"] + failed["hold"], "failures", 0),
        _row(
            "memory of the server with all of them, and their herd",
            report["server"]["peak_mib"],
            "MiB",
            TARGET_MEMORY_MIB,
        ),
        _row(
            f"{herd['served']} of {AGENTS} agents, cut off, are back within {HERD_SECONDS:.0f} s: the last one served",
            herd["last_seconds"],
            "s",
            TARGET_HERD_SECONDS,
        ),
        _row("the herd's last first packet, which the generator's own pace limits", herd["arrived_seconds"], "s", None),
        _row("failures while the herd returns, all repeated with success", failed["herd"], "failures", None),
        _row("kill switch in the herd: uploads refused", switch["refused_seconds"], "s", TARGET_SWITCH_SECONDS),
        _row(
            f"kill switch in the herd: {switch['waiting']} agents that waited told",
            switch["waiting_told_seconds"],
            "s",
            TARGET_TOLD_SECONDS,
        ),
        _row("kill switch in the herd: everybody told", switch["all_told_seconds"], "s", TARGET_HERD_SECONDS),
        _row("generator's processor time for all of it", report["generator"]["cpu_seconds"], "s", None),
        _row("server's processor time for all of it", report["server"]["cpu_seconds"], "s", None),
    ]


def _coming_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    operations, seconds = report["operations"], MANY_SECONDS
    rate = operations["upload"]["count"] / seconds
    name = f"{MANY} agents every {INTERVAL_SECONDS:.0f} s, {rate:.0f} visits/s for {seconds:.0f} s"
    return [
        _row(f"{name}: upload", operations["upload"]["p99_ms"], "ms, p99", TARGET_P99_MILLISECONDS),
        _row(f"{name}: fetch", operations["fetch"]["p99_ms"], "ms, p99", TARGET_P99_MILLISECONDS),
        _row(
            "a visit with its TLS handshake, from the second it was due", operations["visit"]["p99_ms"], "ms, p99", None
        ),
        _row("failures", report["failed"] + report["visits"]["unfinished"], "failures", 0),
        _row("memory of the server", report["server"]["peak_mib"], "MiB", TARGET_MEMORY_MIB),
        _row("server's processor time", report["server"]["cpu_seconds"], "s", None),
    ]


def _row(name: str, ours: float | None, unit: str, target: float | None) -> dict[str, Any]:
    """Return a row; whoever never got there is a day late."""
    return {
        "name": name,
        "ours": _NEVER_SECONDS if ours is None else ours,
        "peer": None,
        "unit": unit,
        "ratio": None,
        "target_ratio": None,
        "target": target,
        "lower_is_better": True,
    }

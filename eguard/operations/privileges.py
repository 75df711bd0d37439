"""Checks of what this process may do and of the sensors that follow from it."""

from __future__ import annotations

import re
from typing import Final

from eguard.operations.check import Finding, failed, ok, skipped, warning
from eguard.operations.examination import Examination

#: Numbers of the capabilities that matter here (linux/capability.h).
CAPABILITIES: Final = {
    "DAC_READ_SEARCH": 2,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "PERFMON": 38,
    "BPF": 39,
}
#: What the agent loses without them. SYS_ADMIN stands in for BPF and PERFMON.
_USES: Final = {
    "eBPF": ("BPF", "PERFMON"),
    "process connector and isolation": ("NET_ADMIN",),
    "DNS tap": ("NET_RAW",),
    "other users' processes": ("SYS_PTRACE", "DAC_READ_SEARCH"),
}
#: Checks that say better than the compiler what is in the way.
_PREREQUISITES: Final = ("privileges", "kernel", "bcc", "kernel_headers", "tracefs", "tracepoints")
_IN_PLACE: Final = {"BPF", "PERFMON"}


def check_privileges(examination: Examination) -> Finding:
    """Check that the process has the user and the capabilities that full telemetry needs."""
    status = examination.read_text("proc/self/status")
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    user = re.search(r"^Uid:\s*\d+\s+(\d+)", status, re.MULTILINE)
    if effective is None or user is None:
        return skipped("/proc/self/status does not tell the capabilities of this process")
    held = {name for name, bit in CAPABILITIES.items() if int(effective[1], 16) >> bit & 1}
    if int(user[1]) != 0:
        names = f" with {', '.join(sorted(held))}" if held else ""
        return examination.lacks_ebpf(
            f"this process runs as user {user[1]}{names}; eBPF needs root",
            "Run it as the agent runs: sudo eguard doctor",
        )
    held |= _IN_PLACE if "SYS_ADMIN" in held else set()
    lost = [f"{use} (needs {' and '.join(names)})" for use, names in _USES.items() if not held.issuperset(names)]
    if lost:
        absent = sorted({name for names in _USES.values() for name in names} - held)
        return examination.lacks_ebpf(
            f"root, but without capabilities for: {', '.join(lost)}",
            f"Give them: in a container --cap-add {' --cap-add '.join(absent)} --pid host --network host; under "
            "systemd, see CapabilityBoundingSet= of the unit.",
        )
    return ok("root, with every capability that the agent uses")


def check_ebpf(examination: Examination) -> Finding:
    """Check that the probes can be compiled and attached: eBPF is available on this machine."""
    if examination.skip_sensors:
        return skipped("the sensors were not opened, as asked for")
    found = next(each for each in examination.sensors if each.name == "ebpf")
    if found.works:
        return ok(f"probes attached; sees {', '.join(found.to_dict()['classes'])}")
    first = [name for name in _PREREQUISITES if not examination.is_fine(name)]
    remedy = f"See first: {', '.join(first)}. {found.remedy}" if first else found.remedy
    return examination.lacks_ebpf(f"eBPF is not available: {found.reason}", remedy)


def check_sensor(examination: Examination) -> Finding:
    """Check that the sensor that the agent would take works, and is the best there is."""
    if examination.skip_sensors:
        return skipped("the sensors were not opened, as asked for")
    wanted = "ebpf" if examination.requires_ebpf else examination.settings.sensor
    candidates = [each for each in examination.sensors if wanted in ("auto", each.name)]
    chosen = next((each for each in candidates if each.works), None)
    if chosen is None:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in candidates)
        return failed(f"the agent would not start: {reasons}", candidates[0].remedy)
    words = f"{chosen.name} (EGUARD_SENSOR={examination.settings.sensor}) sees {', '.join(chosen.to_dict()['classes'])}"
    best = next(each for each in examination.sensors if each.works)
    if best is not chosen:
        return warning(f"{words}; {best.name} would work here too and sees more", "Set EGUARD_SENSOR=auto.")
    return ok(words)

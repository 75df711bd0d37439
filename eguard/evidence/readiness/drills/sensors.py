"""The eBPF sensor of this endpoint against what surely happened, and everything that it needs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from eguard.evidence.readiness.course import Course, DrillOptions
from eguard.evidence.readiness.doctor import examine

TITLE: Final = "Measure what the eBPF sensor sees of a scripted truth on this machine; run it as root on an endpoint"
_CHECKS: Final = ("kernel", "btf", "kernel_headers", "tracefs", "bcc", "tracepoints", "privileges", "ebpf")
_SETTINGS: Final = (
    *("--execs", "300", "--connects", "100", "--writes", "100", "--queries", "60", "--datagrams", "60"),
    *("--rate", "100"),
)
#: What the sensor is held to, share of things seen and share of these under the right name.
RECALL: Final = 0.99
KEY_ACCURACY: Final = 0.99


def run(course: Course, options: DrillOptions) -> None:  # noqa: ARG001 - every drill is called alike
    """Run the drill."""
    examine(course, _CHECKS)
    with tempfile.TemporaryDirectory(prefix="eguard-parity-") as folder:
        out = str(Path(folder) / "parity.json")
        answer = course.run("sensor", "parity", "--sensor", "ebpf", "--out", out, *_SETTINGS)
    found = answer["record"]["sensors"]["ebpf"]
    if not course.check(
        "the eBPF sensor works here", found["works"], found.get("reason", "yes"), passed=found["works"]
    ):
        return
    for kind, each in found["classes"].items():
        seen = {name: each[name] for name in ("done", "seen", "recall", "key_accuracy")}
        is_seen = each["done"] > 0 and each["recall"] >= RECALL and (each["key_accuracy"] or 0.0) >= KEY_ACCURACY
        course.check(kind, seen, f"recall at least {RECALL:g}, right names at least {KEY_ACCURACY:g}", passed=is_seen)

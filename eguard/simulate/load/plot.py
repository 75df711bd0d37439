"""The course of a load test as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw uploads, connections, latency and the server's memory by the second.

    Parameters
    ----------
    report : dict
        Of `eguard.simulate.load.run_load`.
    path : Path
        PNG to write.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - most runs draw nothing

    seconds = report["seconds_table"]
    at = [second["at_seconds"] for second in seconds]
    figure = Figure(figsize=(9.0, 8.0), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    panels = (
        ("agents", (("connected", "connected"), ("waiting", "waiting"))),
        ("each second", (("uploads", "uploads"), ("failures", "failures"))),
        ("ms", (("upload_p99_ms", "slowest of a hundred uploads"),)),
        ("MiB", (("server_mib", "server"),)),
    )
    for axis, (label, lines) in zip(axes, panels, strict=True):
        for name, title in lines:
            values = [float("nan") if second[name] is None else second[name] for second in seconds]
            axis.plot(at, values, label=title, linewidth=1.2)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.legend(loc="upper left", fontsize="small")
    axes[2].set_yscale("log")
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)

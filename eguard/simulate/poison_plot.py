"""Shift against share of liars, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw what each attack moved over the share of liars, with the bound and what the plain mean did at its worst.

    Parameters
    ----------
    result : dict
        Of `eguard.simulate.poison_server.simulate_poison_over_http`.
    path : Path
        PNG to write.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - most runs draw nothing

    rows = result["rows"]
    shares = sorted({row["share"] for row in rows})
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axis = figure.subplots()
    for attack in dict.fromkeys(row["attack"] for row in rows):
        moved = {row["share"]: row["total_variation"] for row in rows if row["attack"] == attack}
        values = [float("nan") if moved[share] is None else moved[share] for share in shares]
        axis.plot(shares, values, marker="o", markersize=4, linewidth=1.2, label=attack)
    for name, style, title in (
        ("bound_total_variation", "k--", "bound, whatever they vote"),
        ("mean_total_variation", "k:", "plain mean, worst attack"),
    ):
        worst = [max(row[name] for row in rows if row["share"] == share) for share in shares]
        axis.plot(shares, worst, style, linewidth=1.2, label=title)
    axis.set_xlabel("share of the agents that lie")
    axis.set_ylabel("total variation moved")
    axis.set_title(f"{result['process_key']}, {result['agents']} agents over mutual TLS", fontsize="medium")
    axis.set_ylim(bottom=0.0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    figure.savefig(path, dpi=110)

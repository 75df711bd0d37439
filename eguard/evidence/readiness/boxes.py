"""The boxes of the gate (operations manual, section 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eguard.evidence.tables import load_table


@dataclass(frozen=True, slots=True)
class Box:
    """A box in the manual's words, the drills that tick it, and for how many days one of them counts."""

    title: str
    drills: tuple[str, ...]
    valid_days: float


BOXES: Final = tuple(
    Box(row["title"], tuple(row["drills"]), float(row["valid_days"])) for row in load_table("readiness_boxes")
)

"""What a check says: a state, the cause, and what a person can do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class State(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `remedy` is empty when there is nothing to do."""

    state: State
    cause: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A finding under the stable name of its check."""

    name: str
    state: State
    cause: str
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {"name": self.name, "state": str(self.state), "cause": self.cause, "remedy": self.remedy}


def ok(cause: str) -> Finding:
    """Return that all is well, and with what."""
    return Finding(State.OK, cause)


def warning(cause: str, remedy: str) -> Finding:
    """Return what works less well than it could."""
    return Finding(State.WARNING, cause, remedy)


def failed(cause: str, remedy: str) -> Finding:
    """Return what does not work."""
    return Finding(State.FAILED, cause, remedy)


def skipped(cause: str) -> Finding:
    """Return why there was nothing to check."""
    return Finding(State.SKIPPED, cause)

"""What the agent wrote of itself last: the part of its status file that the doctor reads."""

from __future__ import annotations

from pathlib import Path

import msgspec

from eguard.agent.status_file import FRESH_SECONDS, STATUS_NAME
from eguard.errors import ConfigError
from eguard.policy import ServerVerdict


class DutyView(msgspec.Struct, frozen=True):
    """One duty of the control plane; the words are `eguard.agent.control.duties.Duty`'s."""

    interval_seconds: float = 0.0
    runs_total: int = 0
    failures_total: int = 0
    last_success_unix: float | None = None
    last_error: str = ""
    last_error_code: str = ""


class PolicyView(msgspec.Struct, frozen=True):
    """The policy that the running agent follows."""

    revision: int = 0
    refusals_total: int = 0
    server_said: dict[str, str] = {}


class ControlView(msgspec.Struct, frozen=True):
    """How the control plane stands."""

    server: str = ""
    connected: bool = False
    policy: PolicyView = PolicyView()
    duties: dict[str, DutyView] = {}
    heartbeat: dict[str, float] = {}
    uploads: dict[str, int] = {}
    telemetry: dict[str, int] = {}


class BufferView(msgspec.Struct, frozen=True):
    """Alerts that wait for a server."""

    waiting: int = 0
    dropped_total: int = 0


class StatusView(msgspec.Struct, frozen=True):
    """A status file of this version or of another: what it does not say has its default."""

    state: str = ""
    written_at_unix: float = 0.0
    control: ControlView | None = None
    buffer: BufferView | None = None


class StatusLook:
    """The last status, and how old it is.

    Parameters
    ----------
    view : StatusView or None
        None: no agent has ever run here.
    age_seconds : float
        Since it was written.
    """

    def __init__(self, view: StatusView | None, age_seconds: float) -> None:
        self.exists = view is not None
        self.age_seconds = age_seconds
        self._view = view or StatusView()
        self.control = self._view.control or ControlView()
        self.buffer = self._view.buffer or BufferView()

    @property
    def is_running(self) -> bool:
        """Whether an agent works here now, by its own word."""
        return self._view.state == "running" and self.age_seconds <= FRESH_SECONDS

    @property
    def has_control(self) -> bool:
        """Whether the agent had a server."""
        return self._view.control is not None

    @property
    def idle(self) -> str:
        """Return why no agent works here."""
        if not self.exists:
            return "no agent has run here yet"
        ended = "ended" if self._view.state == "stopped" else "wrote its last status"
        return f"no agent runs here: the last one {ended} {duration(self.age_seconds)} ago"

    def duty(self, name: str) -> DutyView:
        """Return how a duty fares; one that is unknown never ran."""
        return self.control.duties.get(name, DutyView())

    def server_said(self, direction: str) -> ServerVerdict:
        """Return the server's latest word on a direction of the exchange."""
        said = self.control.policy.server_said.get(direction, "")
        return ServerVerdict(said) if said in list(ServerVerdict) else ServerVerdict.ERROR


def look_at_status(state_path: Path, now_unix: float) -> StatusLook:
    """Read the status file.

    Raises
    ------
    ConfigError
        It is there and cannot be read.
    PermissionError
        It is closed to this user.
    """
    path = state_path / STATUS_NAME
    try:
        view = msgspec.json.decode(path.read_bytes(), type=StatusView)
    except FileNotFoundError:
        return StatusLook(None, 0.0)
    except PermissionError:
        raise  # what is closed to this user says nothing about the agent
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}",
            remedy="The agent writes it anew every ten seconds; start it, or move it.",
        ) from error
    return StatusLook(view, max(0.0, now_unix - view.written_at_unix))


def duration(seconds: float) -> str:
    """Return a span of time as people say it.

    Examples
    --------
    >>> duration(12.4), duration(600), duration(90_000)
    ('12 s', '10 min', '25 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"

"""Checks of the clock. A wrong one makes good certificates and bundles look expired, and bad ones valid."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import eguard
from eguard.operations.check import Finding, failed, ok, skipped, warning
from eguard.operations.examination import Examination

_DAY: Final = 86_400.0
#: The clock may lag what was written by this much: time zones do not matter, but disks of other machines do.
_TOLERANCE_SECONDS: Final = 600.0
#: No version is in use this long after it was installed.
_LIFETIME_SECONDS: Final = 30 * 365.25 * _DAY
_SET_CLOCK: Final = "Set the clock: sudo timedatectl set-ntp true (or date -u --set ...), then restart the agent."
_STA_UNSYNC: Final = 0x40
_TIME_ERROR: Final = 5
_TIMESYNCD_FILE: Final = "run/systemd/timesync/synchronized"


class _Timex(ctypes.Structure):
    """``struct timex`` of <sys/timex.h>, to be read only (modes 0)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("rest", ctypes.c_long * 32),
    )


def check_clock(examination: Examination) -> Finding:
    """Check that the clock is not before anything that has already happened, nor absurdly late."""
    now = examination.clock.now()
    known = sorted(_known_times(examination))
    latest, what = known[-1]
    shown = _date(now)
    if now < latest - _TOLERANCE_SECONDS:
        return failed(
            f"the clock says {shown}, which is {_span(latest - now)} before {what} ({_date(latest)})", _SET_CLOCK
        )
    if now > known[0][0] + _LIFETIME_SECONDS:
        return failed(f"the clock says {shown}, {_span(now - known[0][0])} after {known[0][1]}", _SET_CLOCK)
    return ok(f"{shown} UTC, later than {what} ({_date(latest)})")


def _known_times(examination: Examination) -> Iterator[tuple[float, str]]:
    """Yield moments that surely lie in the past, each with its name."""
    yield Path(eguard.__file__).stat().st_mtime, "the installation of eGuard"
    if not examination.has_settings:
        return
    try:
        recovered = examination.store.recovered
    except PermissionError:  # the check baseline_store says so
        return
    if recovered is not None and math.isfinite(recovered.facts.last_observed):
        yield recovered.facts.last_observed, "the last event in the baseline store"


def check_clock_sync(examination: Examination) -> Finding:
    """Check that something keeps the clock right."""
    if (examination.root / _TIMESYNCD_FILE).exists():
        return ok("kept right by systemd-timesyncd")
    state = kernel_clock_state()
    if state is None:
        return skipped("this system does not tell whether its clock is synchronised")
    is_synchronised, error_seconds = state
    if is_synchronised:
        return ok(f"synchronised; the kernel knows it to within {error_seconds:.3f} s")
    return warning(
        "nothing synchronises the clock: certificates and bundles will look expired once it is wrong",
        "sudo apt-get install chrony, or sudo timedatectl set-ntp true; in a virtual machine without either, see that "
        "its host's clock is synchronised.",
    )


def kernel_clock_state() -> tuple[bool, float] | None:
    """Return whether the kernel's clock is synchronised and its largest error in seconds; None if it does not say."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        answer = library.adjtimex(ctypes.byref(timex := _Timex()))
    except (OSError, AttributeError):
        return None
    if answer < 0:
        return None
    return answer != _TIME_ERROR and not timex.status & _STA_UNSYNC, timex.maxerror / 1e6


def _date(time_unix: float) -> str:
    try:
        return datetime.fromtimestamp(time_unix, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{time_unix:.0f} s after 1970"


def _span(seconds: float) -> str:
    return f"{seconds / _DAY:,.1f} days" if seconds >= _DAY else f"{seconds:,.0f} s"
